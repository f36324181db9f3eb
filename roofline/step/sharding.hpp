// How a model is spread over ranks: widths, the rules they obey, and what each rank owns.
//
// N = dp * kvp * tpa = tpf * ep ranks per pipeline stage, times pp stages. The attention phase and the FFN
// phase re-use the same ranks. Inside a stage, rank = tpa_index + tpa * (kvp_index + kvp * dp_index) for
// attention and rank = tpf_index + tpf * ep_index for the FFN.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "roofline/base/dtype.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/step/kernel_maker.hpp"
#include "roofline/step/range.hpp"
#include "roofline/step/strategy.hpp"

namespace helix {

struct Sharding {
  int kvp = 1, tpa = 1, tpf = 1, ep = 1, pp = 1, dp = 1;
  int stage_ranks() const { return dp * kvp * tpa; }
  int ranks() const { return stage_ranks() * pp; }
  bool operator==(const Sharding&) const = default;
};

/// How the ranks that share a cache (KVP) get their queries and add up what they attended. Helix computes the
/// queries on all of them and exchanges partial outputs all to all; engines' DCP has the other ways, too.
struct CacheExchange {
  enum class Queries { replicated, gathered } queries = Queries::replicated;
  enum class Merge { a2a, ag_rs } merge = Merge::a2a;  // ag_rs: all-gather of the sums, reduce-scatter
  /// Where MLA's W_UV makes a head's values of the latent ones: on the merged outputs of the heads that a rank owns, or
  /// before, on the partial ones of all heads, which are narrower then.
  enum class Projection { after_merge, before_merge } projection = Projection::after_merge;
  bool operator==(const CacheExchange&) const = default;
};
std::string to_string(const CacheExchange& exchange);  // "ag_rs+gathered", "a2a+replicated+projected"
/// Throws UsageError for anything but what to_string gives.
CacheExchange parse_cache_exchange(std::string_view text);

/// How drafts attend where ranks share the model's caches (KVP).
enum class DraftKv : std::uint8_t {
  sharded,  // as the model does: over all tokens, by an exchange of partial outputs
  local,    // as TensorRT-LLM's: TP over all these ranks, each over the tokens that it holds, and no exchange
};
std::string_view name(DraftKv draft_kv);  // "sharded", "local"
/// Throws UsageError for anything but these names.
DraftKv parse_draft_kv(std::string_view text);

/// One decode step's shape: `batch` requests of the whole instance, each with `context` cached tokens.
struct DecodeShape {
  std::int64_t context = 0;
  std::int64_t batch = 1;
  int tokens_per_block = 32;
  int hop_b = 1;                     // pieces whose all-to-all overlaps the next one's attention; 1: off
  DType weight_dtype = DType::bf16;  // of most weights: of routed experts, of a dense model's FFN
  DType kv_dtype = DType::bf16;
  KernelMaker kernels = KernelMaker::own;  // of attention, where steps are measured
  CacheExchange exchange{};
  double expert_skew =
      0;  // Zipf exponent of the experts' popularity, 0: uniform; the busiest rank has the favourites
  int redundant_experts = 0;  // copies of the most popular ones: so many more are held by all ranks together
  std::int64_t padded_rows = 0;  // at least so many are computed by each group of ranks (engines' graphs)
  // Of engines whose groups of ranks attend requests of their own (as_served): each rank has the whole head for its
  // requests; sums of attention stay in the group.
  bool whole_head = false, sums_in_group = false;
  /// Of each part where they differ from what weight_dtype alone means: WeightPrecision::uniform.
  std::optional<WeightPrecision> weights{};
  /// Speculative decoding: drafted tokens that a step checks for each request beside its next one, and how many of
  /// these tokens it yields in the mean; 0: not known.
  int draft_tokens = 0;
  double acceptance = 1;
  DraftKv draft_kv = DraftKv::sharded;
  std::int64_t query_tokens() const { return 1 + draft_tokens; }
  /// From token to token, as a user sees it: what budgets bound. At most a step, where the acceptance is not known.
  double token_us(double step_us) const { return acceptance > 0 ? step_us / acceptance : step_us; }
};

/// The format of a part's weights in this step.
inline WeightFormat weight_format(const DecodeShape& shape, WeightPart part) {
  if (shape.weights) return (*shape.weights)[part];
  const bool wide = part == WeightPart::router || part == WeightPart::embedding;
  return common_format(wide ? DType::bf16 : shape.weight_dtype);
}

/// Why this split is illegal ("helix needs TPA <= K: tpa=16, 8 KV heads"), or nothing if it is legal.
std::optional<std::string> why_illegal(const ModelSpec& model, Strategy strategy, const Sharding& sharding,
                                       const DecodeShape& shape);

/// Where a rank stands in each grid. Medha's FFN uses the first tpf * ep ranks only: ep >= Sharding::ep marks
/// the ranks that idle there.
struct RankCoords {
  int dp = 0, kvp = 0, tpa = 0, tpf = 0, ep = 0, pp = 0;
};
RankCoords rank_coords(const Sharding& sharding, int rank);

/// Each rank of a stage attends requests of its own, whole: KVP = TPA = 1, DP = N.
bool attends_whole_requests(const Sharding& sharding);
/// Whether the rank has a part of the FFN's weights.
bool has_ffn(const Sharding& sharding, const RankCoords& at);
/// The layers of pipeline stage `stage` out of the model's first `layers`.
Range stage_layers(std::int64_t layers, const Sharding& sharding, int stage);

/// Requests that pass the pipeline's stages together; as many micro-batches as stages are in flight.
struct MicroBatch {
  Range requests;           // of the instance's batch
  Range attended;           // those that the rank's DP group attends, counted from requests.begin
  std::int64_t cached = 0;  // number of the first of them among all that the DP group attends
  std::int64_t query_tokens = 1;

  // Rows of a step: query_tokens of each request.
  Range rows() const { return scaled(requests, query_tokens); }
  Range attended_rows() const { return scaled(attended, query_tokens); }
  std::int64_t cached_rows() const { return cached * query_tokens; }
};
/// Those of a batch, none of them empty, as DP group `dp_index` sees them; the first is the largest.
std::vector<MicroBatch> micro_batches(const Sharding& sharding, std::int64_t batch, int dp_index,
                                      std::int64_t query_tokens = 1);
/// Whether every DP group has a request in each of them: else the engine does not run it.
bool every_group_attends(const Sharding& sharding, std::int64_t batch);

/// Query heads a rank attends with (all KVP peers the same ones): TPA shard of Q.
Range query_heads(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at);
/// Query heads a rank owns after the all-to-all: its 1/KVP part of query_heads.
Range owned_heads(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at);
/// KV heads a rank caches; TPA > K duplicates heads over TPA / K ranks. MLA: the one latent.
Range cached_kv_heads(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at);

// The same where all layers have the model's attention.
inline Range query_heads(const ModelSpec& model, const Sharding& sharding, const RankCoords& at) {
  return query_heads(model.attention, sharding, at);
}
inline Range owned_heads(const ModelSpec& model, const Sharding& sharding, const RankCoords& at) {
  return owned_heads(model.attention, sharding, at);
}
inline Range cached_kv_heads(const ModelSpec& model, const Sharding& sharding, const RankCoords& at) {
  return cached_kv_heads(model.attention, sharding, at);
}

/// Global positions of the history of `context` tokens cached by KVP rank `kvp_index`: contiguous runs of
/// whole blocks (the last block of all may be short), low ranks hold the extra block. May be empty.
Range history_tokens(std::int64_t context, int tokens_per_block, int kvp, int kvp_index);
/// The KVP rank that appends the token of decode step `step` (0-based): round robin
/// every tokens_per_block steps.
int append_owner(std::int64_t step, int tokens_per_block, int kvp);
/// Tokens appended on KVP rank `kvp_index` by the first `steps` decode steps.
std::int64_t appended_tokens(std::int64_t steps, int tokens_per_block, int kvp, int kvp_index);

}  // namespace helix
