// Flash-decode over its shapes. The KV cache fills cold_buffer() and every iteration takes the next request,
// so K and V come from memory. Counters: bytes and FLOP of K and V per second, and roofline_fraction: the
// least time that the bandwidth and the multiply-add rate measured beside it allow, over the median
// iteration's.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/micro/cold_buffer.hpp"
#include "kernels/cpu/attention.hpp"

namespace helix {
namespace {

struct Shape {
  std::string name;
  KvShape kv;
  std::int64_t q_heads = 0, tokens = 0;
  int threads = 1;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void attention(benchmark::State& state, const Shape& shape) {
  const KvShape& kv = shape.kv;
  const std::span<std::byte> memory = cold_buffer();
  const std::size_t page_bytes = cpu::kv_page_bytes(kv);
  const std::int64_t pages = (shape.tokens + kv.tokens_per_page - 1) / kv.tokens_per_page;
  const auto requests = static_cast<std::int64_t>(memory.size() / page_bytes) / pages;
  if (requests < 2) return state.SkipWithError("the cold buffer is too small for two requests");
  std::vector<std::int32_t> table(static_cast<std::size_t>(requests * pages));
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(requests), shape.tokens);
  const KvView view{kv, memory.data(), page_bytes, table.data(), pages, lengths.data()};
  HistorySlice history;
  history.requests = requests;
  history.global_kv_heads = kv.kv_heads;
  history.tokens = shape.tokens;
  cpu::kv_fill_history(view, history, shape.threads);

  std::vector<BF16> q(static_cast<std::size_t>(shape.q_heads * kv.head_dim));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = to_bf16(std::sin(static_cast<float>(i)));
  std::vector<BF16> o(static_cast<std::size_t>(shape.q_heads * kv.v_dim));
  std::vector<float> lse(static_cast<std::size_t>(shape.q_heads));
  const std::size_t scratch_bytes = cpu::attention_scratch_bytes(kv, 1, shape.q_heads, shape.threads);
  const std::unique_ptr<std::byte[], decltype(&std::free)> scratch(
      static_cast<std::byte*>(std::aligned_alloc(4096, (scratch_bytes + 4095) / 4096 * 4096)), &std::free);

  const double bandwidth = bandwidth_now(shape.threads);
  const double peak = peak_now(DType::bf16, shape.threads);
  const float scale = 1.0f / std::sqrt(static_cast<float>(kv.head_dim));
  std::vector<double> seconds;
  std::int64_t request = 0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    cpu::attention(view.from_request(request), 1, shape.q_heads, scale, q.data(), o.data(), lse.data(),
                   scratch.get(), shape.threads);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    state.SetIterationTime(seconds.back());
    request = (request + 1) % requests;
  }
  const bool mla = kv.kind == AttentionKind::mla;
  const auto tokens = static_cast<double>(shape.tokens);
  const double row =
      static_cast<double>(mla ? kv.head_dim : kv.head_dim + kv.v_dim) * bytes_per_value(kv.dtype);
  const double bytes = tokens * static_cast<double>(kv.kv_heads) * row;
  const double flops = 2.0 * tokens * static_cast<double>(shape.q_heads * (kv.head_dim + kv.v_dim));
  const double best = std::max(bytes / bandwidth, flops / peak), typical = median(seconds);
  state.counters["bytes_per_second"] = bytes / typical;
  state.counters["flops_per_second"] = flops / typical;
  state.counters["ceiling_bytes_per_second"] = bandwidth;
  state.counters["ceiling_flops_per_second"] = peak;
  state.counters["roofline_fraction"] = best / typical;
  state.SetLabel(cpu::attention_kernel_path());
}

KvShape gqa(std::int64_t kv_heads, std::int64_t dim, DType dtype) {
  return {AttentionKind::gqa, kv_heads, dim, dim, 32, dtype};
}

[[maybe_unused]] const bool registered = [] {
  std::vector<Shape> shapes;
  for (DType dtype : {DType::bf16, DType::fp8}) {
    const KvShape mla{AttentionKind::mla, 1, 576, 512, 32, dtype};
    for (std::int64_t tokens : {4096, 65536}) {
      shapes.push_back({"llama_3_2_1b", gqa(8, 64, dtype), 32, tokens, 1});
      shapes.push_back({"llama_3_1_8b", gqa(8, 128, dtype), 32, tokens, 1});
      shapes.push_back({"group_16", gqa(1, 128, dtype), 16, tokens, 1});
      shapes.push_back({"mqa_head_dim_256", gqa(1, 256, dtype), 8, tokens, 1});
      shapes.push_back({"mla_8_heads", mla, 8, tokens, 1});
      shapes.push_back({"mla_16_heads", mla, 16, tokens, 1});
      shapes.push_back({"mla_128_heads", mla, 128, tokens, 1});
    }
  }
  shapes.push_back({"llama_3_2_1b", gqa(8, 64, DType::bf16), 32, 65536, 2});
  shapes.push_back({"mla_16_heads", {AttentionKind::mla, 1, 576, 512, 32, DType::bf16}, 16, 65536, 2});
  for (const Shape& shape : shapes) {
    const std::string full = "attention/" + shape.name + "/" + std::string(name(shape.kv.dtype)) +
                             "/tokens:" + std::to_string(shape.tokens) +
                             "/threads:" + std::to_string(shape.threads);
    benchmark::RegisterBenchmark(full.c_str(), [shape](benchmark::State& state) { attention(state, shape); })
        ->UseManualTime()
        ->MinTime(0.5);
  }
  return true;
}();

}  // namespace
}  // namespace helix
