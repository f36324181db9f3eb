// Sparse-attention modules that were measured in benchmark loops, their projections included.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "roofline/base/arithmetic.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/validate/benchmark_loop.hpp"
#include "roofline/validate/verdict.hpp"

namespace helix {
namespace {

/// What the modules of a family of models are made of; from their config.json files.
struct Module {
  std::string_view model;  // part of the name
  std::int64_t hidden, q_lora, heads, nope, v_dim;
  std::int64_t index_heads, top_k, tokens_per_key;
  std::int64_t output_groups;  // compressed attention: low-rank output projections
};
constexpr std::int64_t latent = 512, rope = 64, index_dim = 128, output_lora = 1024, window = 128;
constexpr double key_bytes = 132;  // 128 values in fp8, one fp32 scale
constexpr std::array modules = {
    Module{"DeepSeek-V3.2", 7168, 1536, 128, 128, 128, 64, 2048, 1, 0},
    Module{"GLM-5", 6144, 2048, 64, 192, 256, 32, 2048, 1, 0},
    Module{"DeepSeek-V4-Flash", 4096, 1024, 64, 0, 0, 64, 512, 4, 8},
    Module{"DeepSeek-V4-Pro", 7168, 1536, 128, 0, 0, 64, 1024, 4, 16},
};

/// `heads`: of one rank; the indexer is on every rank.
double weight_bytes(const Module& m, std::int64_t heads, double bytes, bool indexer) {
  const std::int64_t index = m.q_lora * m.index_heads * index_dim;
  const double index_gates = real(m.hidden * m.index_heads) * bf16_bytes;
  if (m.tokens_per_key == 1) {
    const std::int64_t projections = m.hidden * (m.q_lora + latent + rope) +
                                     m.q_lora * heads * (m.nope + rope) + heads * m.v_dim * m.hidden +
                                     (indexer ? index + m.hidden * index_dim : 0);
    return bytes * real(projections) + bf16_bytes * real(heads * latent * (m.nope + m.v_dim)) +
           (indexer ? index_gates : 0);
  }
  const std::int64_t groups = std::max<std::int64_t>(1, m.output_groups * heads / m.heads);
  // Compressors of the cache and of the index keys: two matrices each, twice as wide for overlapping windows.
  const std::int64_t compressors = m.hidden * 4 * (latent + index_dim);
  return bytes * real(m.hidden * (m.q_lora + latent) + m.q_lora * heads * latent +
                      heads * latent * output_lora + groups * output_lora * m.hidden + index + compressors) +
         index_gates;
}

}  // namespace

Verdict judge_sparse(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& model = row.text("model");
  const std::string& kernel_source = row.text("kernel_source");
  const auto* m = std::ranges::find_if(
      modules, [&](const Module& candidate) { return model.find(candidate.model) != std::string::npos; });
  if (m == modules.end()) return LeftOut{"a sparse-attention model that is not known: " + model};
  const bool compressed = m->tokens_per_key > 1;
  const DType cache = row.text("kv_cache_dtype").starts_with("fp8") ? DType::fp8 : DType::bf16;
  const bool quantised = row.text("gemm_type").starts_with("fp8");
  const std::int64_t batch = row.count("batch_size"), tokens = row.count("context_tokens");
  const IndexerShape indexer{.batch = batch,
                             .heads = m->index_heads,
                             .head_dim = index_dim,
                             .top_k = m->top_k,
                             .keys = std::max<std::int64_t>(1, tokens / m->tokens_per_key),
                             .tokens_per_key = m->tokens_per_key};
  const bool picks = row.text("op_name").find("skip_indexer") == std::string::npos;
  const AttentionShape attention{.kind = AttentionKind::mla,
                                 .batch = batch,
                                 .q_heads = row.count("num_heads"),
                                 .kv_heads = 1,
                                 .head_dim = compressed ? latent : latent + rope,
                                 .v_dim = latent,
                                 .tokens = tokens,
                                 .picked = std::min(indexer.keys, m->top_k) + (compressed ? window : 0)};
  for (const GpuSparseAttention& a : system.gpu->sparse_attention) {
    const bool right_cache =
        a.cache == GpuGqa::Cache::any || (a.cache == GpuGqa::Cache::bf16) == (cache == DType::bf16);
    if (!right_cache || !kernel_source.ends_with(a.kernel)) continue;
    const double us = benchmark_loop::sparse_module_us(
        system, a,
        {.attention = attention,
         .indexer = picks ? &indexer : nullptr,
         .weight_bytes = weight_bytes(*m, attention.q_heads, quantised ? 1 : bf16_bytes, picks),
         .kv_bytes = real(batch * attention.picked * attention.head_dim) * bytes_per_value(cache),
         .key_bytes = real(batch * indexer.keys) * key_bytes,
         .quantised_inputs = quantised});
    return Judged{fmt::format("{}/{}", model, kernel_source), us, row.positive("latency_us")};
  }
  return LeftOut{"no such sparse attention in the system: " + kernel_source};
}

}  // namespace helix
