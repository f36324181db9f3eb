// Flash-decode over its shapes. The KV cache fills cold_buffer() and every iteration takes the next request,
// so K and V come from memory. Bytes are those of K and V, FLOPs those of the two products. attention_rows: of several
// tokens of a request, as a step with drafts has them.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/micro/cold_samples.hpp"
#include "kernels/cpu/attention/attention.hpp"

namespace helix {
namespace {

struct Shape {
  std::string name;
  KvShape kv;
  std::int64_t q_heads = 0, tokens = 0;
  int threads = 1;
  std::int64_t query_tokens = 1;
};

double kv_bytes(const Shape& shape) {
  return static_cast<double>(shape.tokens) * shape.kv.bytes_per_token();
}

void attention(benchmark::State& state, const Shape& shape) {
  const KvShape& kv = shape.kv;
  const std::span<std::byte> memory = cold_buffer();
  const std::size_t page_bytes = cpu::kv_page_bytes(kv);
  const std::int64_t pages = kv.pages(shape.tokens);
  const auto requests = static_cast<std::int64_t>(memory.size() / page_bytes) / pages;
  if (requests < 2) return state.SkipWithError("the cold buffer is too small for two requests");
  std::vector<std::int32_t> table(static_cast<std::size_t>(requests * pages));
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
  const std::int64_t rows = shape.query_tokens, heads = rows * shape.q_heads;
  std::vector<std::int64_t> lengths;
  for (std::int64_t row = 0; row < requests * rows; ++row)
    lengths.push_back(shape.tokens - rows + 1 + row % rows);
  const KvView view{kv, memory.data(), page_bytes, table.data(), pages, lengths.data(), rows};
  HistorySlice history;
  history.requests = requests;
  history.global_kv_heads = kv.kv_heads;
  history.tokens = shape.tokens;
  cpu::kv_fill_history(view, history, shape.threads);

  std::vector<BF16> q(static_cast<std::size_t>(heads * kv.head_dim));
  for (std::size_t i = 0; i < q.size(); ++i) q[i] = to_bf16(std::sin(static_cast<float>(i)));
  std::vector<BF16> o(static_cast<std::size_t>(heads * kv.v_dim));
  std::vector<float> lse(static_cast<std::size_t>(heads));
  const std::size_t scratch_bytes = cpu::attention_scratch_bytes(kv, 1, heads, shape.threads);
  const std::unique_ptr<std::byte[], decltype(&std::free)> scratch(
      static_cast<std::byte*>(std::aligned_alloc(4096, (scratch_bytes + 4095) / 4096 * 4096)), &std::free);

  const float scale = 1.0f / std::sqrt(static_cast<float>(kv.head_dim));
  const double flops = 2.0 * static_cast<double>(shape.tokens * heads * (kv.head_dim + kv.v_dim));
  std::int64_t request = 0;
  state.SetLabel(cpu::attention_kernel(kv));
  sample_against_roofline(state, kv_bytes(shape), flops, shape.threads, [&] {
    cpu::attention(view.from_request(request), 1, shape.q_heads, scale, q.data(), o.data(), lse.data(),
                   {scratch.get(), scratch_bytes}, shape.threads);
    request = (request + 1) % requests;
  });
}

KvShape gqa(std::int64_t kv_heads, std::int64_t dim, DType dtype) {
  return {AttentionKind::gqa, kv_heads, dim, dim, 32, dtype};
}

[[maybe_unused]] const bool registered = [] {
  std::vector<Shape> shapes;
  for (DType dtype : {DType::bf16, DType::fp8}) {
    const KvShape mla{AttentionKind::mla, 1, 576, 512, 32, dtype};
    for (std::int64_t tokens : {4096, 65536}) {
      for (int threads : {1, 2}) {
        shapes.push_back({"llama_3_2_1b", gqa(8, 64, dtype), 32, tokens, threads});
        shapes.push_back({"llama_3_1_8b", gqa(8, 128, dtype), 32, tokens, threads});
        shapes.push_back({"group_16", gqa(1, 128, dtype), 16, tokens, threads});
        shapes.push_back({"mqa_head_dim_256", gqa(1, 256, dtype), 8, tokens, threads});
        for (std::int64_t heads : {8, 16, 32, 64, 128})
          shapes.push_back({"mla_" + std::to_string(heads) + "_heads", mla, heads, tokens, threads});
      }
    }
  }
  const std::size_t of_one_token = shapes.size();
  for (std::int64_t query_tokens = 1; query_tokens <= 8; ++query_tokens) {
    for (DType dtype : {DType::bf16, DType::fp8}) {
      const KvShape mla{AttentionKind::mla, 1, 576, 512, 32, dtype};
      shapes.push_back({"llama_3_1_8b", gqa(8, 128, dtype), 32, 65536, 1, query_tokens});
      shapes.push_back({"group_16", gqa(1, 128, dtype), 16, 65536, 1, query_tokens});
      shapes.push_back({"mla_16_heads", mla, 16, 65536, 1, query_tokens});
    }
  }
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Shape& shape = shapes[i];
    const bool rows = i >= of_one_token;
    const std::string full = (rows ? "attention_rows/" : "attention/") + shape.name + "/" +
                             std::string(name(shape.kv.dtype)) + "/tokens:" + std::to_string(shape.tokens) +
                             "/threads:" + std::to_string(shape.threads) +
                             (rows ? "/rows:" + std::to_string(shape.query_tokens) : "");
    benchmark::RegisterBenchmark(full.c_str(), [shape](benchmark::State& state) { attention(state, shape); })
        ->UseManualTime()
        // A fixed count, since the cache is filled anew for every guess of one.
        ->Iterations(std::max<std::int64_t>(10, static_cast<std::int64_t>(2e9 / kv_bytes(shape))));
  }
  return true;
}();

}  // namespace
}  // namespace helix
