// Offsets past 2^31 bytes and elements. The memory is address space that takes pages only where it is
// touched; what lies far apart in it must give the same bits as what lies side by side.
#include <sys/mman.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/ops/backend.hpp"
#include "kernels/ops/synthetic.hpp"
#include "tests/kernels/cpu/isa_scope.hpp"

namespace helix {
namespace {

constexpr std::size_t gib = std::size_t{1} << 30;

class SparseMemory {
 public:
  explicit SparseMemory(std::size_t bytes)
      : bytes_(bytes),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0)) {
    REQUIRE(data_ != MAP_FAILED);
  }
  ~SparseMemory() { munmap(data_, bytes_); }
  SparseMemory(const SparseMemory&) = delete;
  SparseMemory& operator=(const SparseMemory&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

std::vector<BF16> random_values(std::int64_t count, std::uint32_t row) {
  std::vector<BF16> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(to_bf16(synthetic::unit_value(row, static_cast<std::uint32_t>(i))));
  return values;
}

bool same_bits(const std::vector<BF16>& a, const std::vector<BF16>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(BF16)) == 0;
}

}  // namespace

TEST_CASE("KV pages up to 10 GiB apart are filled, appended to and read as neighbours are") {
  constexpr std::int64_t batch = 2, pages = 4, q_heads = 8;  // pages of one request
  constexpr std::size_t span = 10 * gib;
  const auto backend = make_cpu_backend(2);
  for (DType dtype : {DType::bf16, DType::fp8}) {
    for (const KvShape& shape : {KvShape{AttentionKind::gqa, 2, 64, 64, 32, dtype},
                                 KvShape{AttentionKind::mla, 1, 576, 512, 32, dtype}}) {
      const std::size_t page_bytes = backend->kv_page_bytes(shape);
      const SparseMemory near_pages(page_bytes * batch * pages), far_pages(span);
      std::vector<std::int32_t> near_table, far_table;
      for (std::size_t i = 0; i < batch * pages; ++i) {
        near_table.push_back(static_cast<std::int32_t>(i));
        far_table.push_back(static_cast<std::int32_t>(span / page_bytes * (i + 1) / (batch * pages)) - 1);
      }
      REQUIRE(static_cast<std::size_t>(far_table.back()) * page_bytes > span - 2 * page_bytes);
      const std::vector<std::int64_t> slots = {100, 33}, lengths = {101, 34};
      const auto decode = [&](const SparseMemory& memory, const std::vector<std::int32_t>& table) {
        const KvView view{shape, memory.data(), page_bytes, table.data(), pages, lengths.data()};
        backend->kv_fill_history(view, {.seed = 3, .requests = batch, .global_kv_heads = 2, .tokens = 100});
        const std::vector<BF16> row = random_values(batch * shape.kv_heads * shape.head_dim, 1);
        const std::int64_t ld = shape.kv_heads * shape.head_dim;
        backend->kv_append(view, batch, slots.data(), row.data(), ld, row.data(), ld);
        const std::vector<BF16> q = random_values(batch * q_heads * shape.head_dim, 2);
        std::vector<BF16> o(static_cast<std::size_t>(batch * q_heads * shape.v_dim));
        std::vector<float> lse(static_cast<std::size_t>(batch * q_heads));
        const auto scratch = backend->allocate(backend->attention_scratch_bytes(shape, batch, q_heads));
        backend->attention(view, batch, q_heads, 0.125f, q.data(), o.data(), lse.data(),
                           {scratch->data(), scratch->bytes()});
        return o;
      };
      testing::on_every_isa([&] {
        const std::vector<BF16> expected = decode(near_pages, near_table);
        CHECK(std::ranges::any_of(expected, [](BF16 x) { return to_float(x) != 0; }));
        CHECK(same_bits(decode(far_pages, far_table), expected));
      });
      for (std::size_t i = 0; i < near_table.size(); ++i) {
        CHECK(std::memcmp(far_pages.data() + static_cast<std::size_t>(far_table[i]) * page_bytes,
                          near_pages.data() + i * page_bytes, page_bytes) == 0);
      }
    }
  }
}

TEST_CASE("matrices of one weight further apart than 2^31 bytes are those side by side") {
  constexpr std::int64_t batch = 3, heads = 3, n = 32, k = 64;
  constexpr std::size_t far_stride = 3 * gib;
  const auto backend = make_cpu_backend(2);
  const SparseMemory far(heads * far_stride), near(heads * backend->packed_bytes(2 * n, k, DType::bf16));
  const auto filled = [&](const SparseMemory& memory, std::size_t stride, std::int64_t rows,
                          std::int64_t cols) {
    const PackedWeight weight{
        .data = memory.data(), .n = rows, .k = cols, .count = heads, .stride_bytes = stride};
    for (std::int64_t i = 0; i < heads; ++i) {
      const WeightSlice slice{.key = static_cast<std::uint64_t>(77 + i), .rows = rows, .cols = cols};
      backend->fill_weight(weight, i, {{slice}});
    }
    return weight;
  };

  SECTION("a matrix per head") {
    const std::vector<BF16> x = random_values(batch * heads * k, 1);
    const auto multiply = [&](const PackedWeight& weight) {
      std::vector<BF16> y(static_cast<std::size_t>(batch * heads * n));
      backend->linear_per_head(batch, {x.data(), heads * k, k}, weight, {y.data(), heads * n, n});
      return y;
    };
    testing::on_every_isa([&] {
      const std::vector<BF16> expected =
          multiply(filled(near, backend->packed_bytes(n, k, DType::bf16), n, k));
      CHECK(std::ranges::any_of(expected, [](BF16 v) { return to_float(v) != 0; }));
      CHECK(same_bits(multiply(filled(far, far_stride, n, k)), expected));
    });
  }
  SECTION("an expert each") {
    const SparseMemory near_down(heads * backend->packed_bytes(k, n, DType::bf16)),
        far_down(heads * far_stride);
    const std::vector<BF16> x = random_values(batch * k, 1);
    const std::vector<std::int32_t> ids = {0, 2, 1, 2, 2, 0};  // two experts of each token
    const std::vector<float> weights(ids.size(), 0.5f);
    const auto scratch = backend->allocate(backend->moe_scratch_bytes(batch, 2, k, n, heads));
    const auto run = [&](const PackedWeight& gate_up, const PackedWeight& down) {
      std::vector<BF16> out(static_cast<std::size_t>(batch * k));
      backend->moe_experts(batch, x.data(), {ids.data(), weights.data(), 2}, {0, gate_up, down}, nullptr,
                           out.data(), {scratch->data(), scratch->bytes()});
      return out;
    };
    testing::on_every_isa([&] {
      const std::vector<BF16> expected =
          run(filled(near, backend->packed_bytes(2 * n, k, DType::bf16), 2 * n, k),
              filled(near_down, backend->packed_bytes(k, n, DType::bf16), k, n));
      CHECK(std::ranges::any_of(expected, [](BF16 v) { return to_float(v) != 0; }));
      CHECK(same_bits(run(filled(far, far_stride, 2 * n, k), filled(far_down, far_stride, k, n)), expected));
    });
  }
}

TEST_CASE("embeddings past 2^31 elements of their table") {
  constexpr std::int64_t hidden = 4096, rows = std::int64_t{1} << 20;
  const auto backend = make_cpu_backend(1);
  const SparseMemory memory(static_cast<std::size_t>(rows * hidden) * sizeof(BF16));
  auto* table = reinterpret_cast<BF16*>(memory.data());
  const std::vector<std::int32_t> tokens = {1, rows / 2 + 1, rows - 1};
  std::vector<BF16> expected;
  for (std::size_t b = 0; b < tokens.size(); ++b) {
    const std::vector<BF16> row = random_values(hidden, static_cast<std::uint32_t>(b));
    std::ranges::copy(row, table + tokens[b] * hidden);
    expected.insert(expected.end(), row.begin(), row.end());
  }
  std::vector<BF16> out(expected.size());
  backend->embed(std::ssize(tokens), hidden, tokens.data(), table, 0, rows, out.data());
  CHECK(same_bits(out, expected));
}

}  // namespace helix
