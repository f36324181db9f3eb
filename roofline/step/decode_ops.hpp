// The operations of one decode step on the busiest rank, each with the DRAM bytes it moves, its FLOPs and
// what it sends. This is the one place where bytes are stated: prediction prices these ops and the engine
// runs them, to which a test holds it.
//
// Per layer, with B requests of a pipeline micro-batch, b = ceil(B / dp) of them attended here, N
// ranks a stage:
//   norm, Q/K/V projections of the TPA shard (the same on all KVP peers), RoPE, append, attention over the
//   local tokens, for KVP > 1 pack + all-to-all + merge, MLA's W_UV and the output projection on the owned
//   heads, all-reduce over N; norm, dense SwiGLU or router + local experts + shared experts, all-reduce over
//   N. Parallel blocks (Command-R) have one norm, and one all-reduce of the sum of what a rank has of both.
//   Layers with a state in place of a cache split its heads over the KVP x TPA ranks that would share the
//   cache: projections, short convolution, update of the state, output projection.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "roofline/step/decode_step.hpp"
#include "roofline/step/phases.hpp"
#include "roofline/system/system_spec.hpp"

namespace helix {

/// y [m, n] = x [m, k] W^T, `matrices` times (per-head products).
struct GemmShape {
  std::int64_t m = 0, n = 0, k = 0, matrices = 1;
  bool fused_on_gpu = false;  // GPU libraries append it to the previous product, whose input it shares
};

/// Flash-decode of `batch` requests over `tokens` local tokens each. Queries of several tokens of a request are so
/// many more query heads, which read K and V once.
struct AttentionShape {
  AttentionKind kind = AttentionKind::gqa;  // whose kernels: one vector that is key and value is as in MLA
  std::int64_t batch = 0, q_heads = 0, kv_heads = 0, head_dim = 0, v_dim = 0, tokens = 0;
  std::int64_t query_tokens = 1;  // of each request; q_heads counts them
  std::int64_t picked = 0;        // of those tokens, the only ones that are read (IndexerShape); 0: all are
};

/// Sparse attention's choice: each request's query scores the keys of its cached tokens with `heads` small
/// heads and picks the `top_k` best.
struct IndexerShape {
  std::int64_t batch = 0, heads = 0, head_dim = 0, top_k = 0;
  std::int64_t keys = 0;            // of each request
  std::int64_t tokens_per_key = 1;  // compressed attention (DeepSeek-V4) keeps one for several tokens
};

/// A state's short convolution and its update, [heads, key_dim, value_dim] for each request.
struct StateShape {
  StateKind kind = StateKind::gated_delta_net;
  std::int64_t batch = 0, heads = 0, key_dim = 0, value_dim = 0, conv_weights = 0;
};

/// Routed experts of one rank: `pairs` of (token, local expert), spread over `active_experts` distinct ones.
struct MoeShape {
  std::int64_t tokens = 0, hidden = 0, ffn = 0, local_experts = 0, top_k = 0;
  double active_experts = 0, pairs = 0;
  std::int64_t matrices = 3;  // of an expert; 2: not gated
  std::int64_t experts = 0;   // of the layer, on all ranks
};

struct ElementwiseShape {
  bool fused_on_gpu = false;  // GPU libraries do it inside a neighbouring kernel
  bool none_on_gpu = false;   // they need no such op
};

struct CollectiveShape {
  Collective op = Collective::all_reduce;
  int group = 1;
  double payload_bytes = 0;     // in the convention of `Collective`
  bool grouped_on_gpu = false;  // on GPUs it goes with the next one, or a neighbouring kernel sends it
  /// Tokens on their way to their experts' ranks, or their sums on the way back; 0 tokens: other data.
  struct Routed {
    std::int64_t tokens = 0, top_k = 0, hidden = 0;  // of this rank
    double bytes_per_value = 0;
    bool combine = false;
  } routed{};
};

using OpShape = std::variant<GemmShape, AttentionShape, IndexerShape, StateShape, MoeShape, ElementwiseShape,
                             CollectiveShape>;

struct DramBytes {
  double weights = 0, kv = 0, state = 0, activations = 0;  // kv: an indexer's keys, too
  double total() const { return weights + kv + state + activations; }
};

/// Where tokens reach their experts by sending each to its experts' ranks or by gathering all on all ranks,
/// both ways are listed.
enum class Way { every, sends, gathers };

struct Op {
  std::string_view name{};
  Phase phase = Phase::attn;
  OpShape shape{};
  DType dtype = DType::bf16;  // of the weights or the KV cache
  DramBytes bytes{};          // of one execution
  double flops = 0;
  double wire_bytes = 0;  // sent by this rank
  double count = 1;       // executions in one step
  Way way = Way::every;
  bool block_scaled = false;   // fp8 weights with a scale a block, which take kernels of their own
  bool beside_routed = false;  // of the shared experts: some engines run it at the time of the routed ones
};

/// Requests that the ranks of a stage work on at a time: with pp stages, pp such micro-batches are in flight.
std::int64_t stage_batch(const Sharding& sharding, const DecodeShape& shape);
/// Those of them that a rank attends.
std::int64_t attended_batch(const Sharding& sharding, const DecodeShape& shape);
/// Rows that a group of ranks computes for them, more where an engine pads steps, and those of all groups.
std::int64_t computed_rows(const Sharding& sharding, const DecodeShape& shape);
std::int64_t stage_rows(const Sharding& sharding, const DecodeShape& shape);
/// Rows whose residual stream a rank keeps: of the requests that it attends whole, else of all groups.
std::int64_t kept_rows(const Sharding& sharding, const DecodeShape& shape);

// One layer's ops (count = 1 each, except those repeated for every piece of HOP-B), and those of the head.
/// What mixes tokens, up to the output projection. Of dp and the batch only ceil(B / dp) and kept_rows
/// matter.
std::vector<Op> attention_ops(const DecodeStep& step, const LayerKind& kind);
/// Up to the down projection.
std::vector<Op> ffn_ops(const DecodeStep& step, const LayerKind& kind);
/// What ranks exchange after attention and after the FFN of a layer: an all-reduce over N for each, one for the
/// sum of both where they are parallel blocks: the ranks hold parts of either. Where each rank attends whole requests (KVP = TPA = 1, DP = N) nothing needs to be summed after attention: tokens go to
/// the FFN's ranks and back. Libraries for GPUs send a token only to the ranks that hold some of its experts; our
/// engine and some serving engines gather all tokens on all ranks, which for a few ranks is the same.
std::vector<Op> exchange_ops(const DecodeStep& step, const LayerKind& kind);
/// All of these, in the order of their execution.
std::vector<Op> layer_ops(const DecodeStep& step, const LayerKind& kind);
/// Embedding, final norm, LM head, choice of the token.
std::vector<Op> head_ops(const DecodeStep& step);

/// How often the last stage executes the head in one step: for each micro-batch, as it has as many layers as
/// the others; where it has one less, the head is in its place, and only a token's own way through it counts.
double head_repeats(const ModelSpec& model, const Sharding& sharding);

/// How often the busiest rank executes a layer of the model in one step: its share of them, layers / pp
/// rounded up to whole layers per stage, for each of the pp micro-batches.
double layer_repeats(const ModelSpec& model, const Sharding& sharding);

/// The whole step: the ops above with their counts.
std::vector<Op> decode_ops(const DecodeStep& step);

}  // namespace helix
