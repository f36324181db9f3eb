// Flash-decode on the CPU for tests: a paged cache in host memory, and attention over it held against fp64 on
// every instruction set of this machine.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/fp8.hpp"
#include "kernels/reference/attention.hpp"
#include "kernels/synthetic.hpp"
#include "tests/paged_cache.hpp"

namespace helix {

struct Aligned {
  explicit Aligned(std::size_t bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 8191) / 4096 * 4096))) {
    if (data == nullptr) throw std::bad_alloc();
  }
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  std::byte* data;
};

struct Cpu {
  template <typename T>
  class Array {
   public:
    explicit Array(const std::vector<T>& values) : memory_(values.size() * sizeof(T)) {
      std::copy(values.begin(), values.end(), data());
    }
    T* data() const { return reinterpret_cast<T*>(memory_.data); }

   private:
    Aligned memory_;
  };
  static std::size_t kv_page_bytes(const KvShape& shape) { return cpu::kv_page_bytes(shape); }
  static void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                        std::int64_t ldk, const BF16* v, std::int64_t ldv) {
    cpu::kv_append(cache, batch, slots, k, ldk, v, ldv, 2);
  }
};
using Cache = PagedCache<Cpu>;

struct Case {
  KvShape shape;
  std::int64_t group = 4;
  std::vector<std::int64_t> lengths;
  float q_scale = 1.0f;
  int threads = 1;
};

inline AttentionResult run(const Cache& cache, std::int64_t q_heads, float scale, const std::vector<BF16>& q,
                           int threads) {
  const KvView view = cache.view();
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  AttentionResult result{
      std::vector<BF16>(static_cast<std::size_t>(batch * q_heads * view.shape.v_dim), to_bf16(nan_value)),
      std::vector<float>(static_cast<std::size_t>(batch * q_heads), nan_value)};
  const std::size_t bytes = cpu::attention_scratch_bytes(view.shape, batch, q_heads, threads);
  const Aligned scratch(bytes + 64);
  std::memset(scratch.data, 0xff, bytes + 64);
  cpu::attention(view, batch, q_heads, scale, q.data(), result.o.data(), result.lse.data(), scratch.data,
                 threads);
  for (std::size_t i = bytes; i < bytes + 64; ++i) REQUIRE(scratch.data[i] == std::byte{0xff});
  return result;
}

inline void test(const Case& c, Cache& cache) {
  const std::int64_t q_heads = c.group * c.shape.kv_heads;
  const auto batch = static_cast<std::int64_t>(c.lengths.size());
  const std::vector<BF16> q = cache.random_row(batch * q_heads * c.shape.head_dim, c.q_scale);
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.shape.head_dim));
  INFO("isa " << name(best_isa()) << " dim " << c.shape.head_dim << " group " << c.group << " page "
              << c.shape.tokens_per_page << ' ' << name(c.shape.dtype) << " threads " << c.threads);
  check_attention(cache, q_heads, scale, q, run(cache, q_heads, scale, q, c.threads));
}

template <typename Body>
void on_every_isa(const Body& body) {
  for (Isa isa : available_isas()) {
    set_isa_cap(isa);
    body();
  }
  set_isa_cap(Isa::amx);
}

}  // namespace helix
