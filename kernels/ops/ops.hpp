// The operations of a decode step on one rank: what every backend (CPU, CUDA) implements and what the
// orchestration of a step is written in. Shapes in brackets are row-major; activations are bf16 with fp32
// accumulation, the residual stream is fp32. All pointers are device memory of the backend. Ops are
// asynchronous where the backend has a stream; `synchronize` waits. No op allocates or creates a thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/kv_view.hpp"
#include "kernels/ops/packed_weight.hpp"
#include "roofline/base/dtype.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/step/kept_tokens.hpp"
#include "roofline/step/shapes.hpp"

namespace helix {

/// Vectors of the heads of each row of a batch: that of row b and head h is at data + b * row_stride +
/// h * head_stride.
template <class T>
struct HeadRows {
  T* data = nullptr;
  std::int64_t row_stride = 0, head_stride = 0;  // in values
  T* at(std::int64_t b, std::int64_t h) const { return data + b * row_stride + h * head_stride; }
  operator HeadRows<const T>() const requires(!std::is_const_v<T>) { return {data, row_stride, head_stride}; }
};

struct RopeTable {
  const float* inv_freq = nullptr;  // [rope_dim / 2], device memory
  std::int64_t rope_dim = 0;
  std::int64_t passed = 0;  // values of a head behind them, that go to `out` as they are
  float amplitude = 1.0f;   // factor on cos and sin (YaRN)
  bool interleaved = false;
};

/// What the tokens of a step bring to a cache, as the projections left it: K [rows, kv_heads * head_dim] and V, rows ld
/// apart, as for kv_append. What K holds afterwards is undefined.
struct NewTokens {
  const std::int64_t *positions = nullptr, *slots = nullptr;
  BF16* k = nullptr;
  std::int64_t ldk = 0;
  const BF16* v = nullptr;
  std::int64_t ldv = 0;
  const BF16* gain = nullptr;  // of an RMS norm of a row's first `normed` values; null: none
  std::int64_t normed = 0;
  float eps = 0.0f;
  RopeTable rope{};
  std::int64_t rotated = 0;  // the first value of each head that is
};

/// What grows with a row's position p: 1 + rate * log(1 + floor(p / period)).
struct PositionGrowth {
  float rate = 0.0f;
  std::int64_t period = 1;
};

/// Vectors that are spread over ranks: the sum of the squares of vector b is that of sums[part * stride + b].
struct SquareSums {
  const float* sums = nullptr;
  std::int64_t parts = 1, stride = 0;
  std::int64_t values = 0;  // of a whole vector
};

struct RouterShape {
  RouterKind kind = RouterKind::softmax_topk;
  std::int64_t experts = 0, top_k = 0, groups = 1, top_groups = 1;
  bool normalize = false;
  float scaling = 1.0f;
};

/// What a router chose: ids and weights [batch, top_k], the experts of a token distinct.
struct ExpertChoice {
  const std::int32_t* ids = nullptr;
  const float* weights = nullptr;
  std::int64_t top_k = 0;
};

/// A rank's experts [first, first + gate_up.count): gate_up_e [2 ffn, hidden], down_e [hidden, ffn], with what is added
/// to their products: [count, 2 ffn] and [count, hidden], or null.
struct ExpertShard {
  std::int64_t first = 0;
  PackedWeight gate_up, down;
  GatedUnit unit{};
  const BF16 *gate_up_bias = nullptr, *down_bias = nullptr;
};

/// A (value, index) pair of a row's largest logit; index < 0: none.
struct TopLogit {
  float value;
  std::int32_t index;
};

/// Rows of `bytes` bytes, a multiple of 4: row r from `from` + r * from_stride to `to` + r * to_stride, strides in
/// bytes. `counts`: of several rows there, one behind the other, the counts[r]-th.
struct CopiedRows {
  std::int64_t rows = 0;
  std::size_t bytes = 0;
  const void* from = nullptr;
  std::size_t from_stride = 0;
  void* to = nullptr;
  std::size_t to_stride = 0;
  const std::int64_t* counts = nullptr;
};

/// What an indexer asks for: a key's score is sum over heads h of weights[h] * relu(scale * q_h . k).
struct IndexQuery {
  const BF16* q = nullptr;         // [batch, heads, key width]
  const float* weights = nullptr;  // [batch, heads]
  std::int64_t heads = 0;
  float scale = 1.0f;
};

/// A cached token and its score; token < 0: none.
struct ScoredToken {
  float score;
  std::int32_t token;
};

/// The local tokens of each request that are attended, in rising order: counts[b] of tokens[b * room ...].
struct ChosenTokens {
  std::int32_t* tokens = nullptr;
  std::int64_t* counts = nullptr;
  std::int64_t room = 0;
  ChosenTokens from_request(std::int64_t first) const {
    return {tokens + first * room, counts + first, room};
  }
};

class DecodeOps {
 public:
  virtual ~DecodeOps() = default;

  /// The best kernels that there are here, whatever the shape: "amx-bf16", "cuda-mma-bf16" ...
  virtual std::string kernel_path() const = 0;

  // --- weights
  /// The types that packed weights may have.
  virtual std::span<const DType> weight_dtypes() const = 0;
  /// Bytes of one packed matrix [n, k], a multiple of 64.
  virtual std::size_t packed_bytes(std::int64_t n, std::int64_t k, DType dtype) const = 0;
  /// Fills matrix `index` of `weight` with the slices stacked along n (their rows add up to n, each
  /// has k columns).
  virtual void fill_weight(const PackedWeight& weight, std::int64_t index,
                           std::span<const WeightSlice> slices) = 0;
  /// The same with values that come from elsewhere, piece by piece from first = 0 on, in the host's memory: rows
  /// [first, first + rows) of matrix `index` become values [rows, k] / weight.scale, which is a power of two. They are
  /// BF16 or FP8 as the weight and divided already; for nvfp4 floats that are not. `rows` is a multiple of 32 but for
  /// the matrix's last ones. `values` are free when it returns. For other rows it may be called from threads() threads
  /// at once.
  virtual void store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first,
                            std::int64_t rows, const void* values) = 0;
  /// Fills row-major bf16 [slice.rows, slice.cols] (the embedding table).
  virtual void fill_matrix(BF16* out, const WeightSlice& slice) = 0;

  // --- projections and norms
  /// out[b,:] = table[tokens[b] - first,:] where first <= tokens[b] < first + rows, else 0.
  virtual void embed(std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens, const BF16* table,
                     std::int64_t first, std::int64_t rows, BF16* out) = 0;
  /// residual += delta (null: nothing to add; `replace`: residual = delta); out = residual /
  /// rms(residual) * gain.
  virtual void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                            float* residual, const BF16* gain, float eps, BF16* out) = 0;
  /// The same with a LayerNorm that has no bias: out = (residual - its mean) / its standard deviation * gain.
  virtual void add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                              float* residual, const BF16* gain, float eps, BF16* out) = 0;
  /// Each of the `heads` vectors of `cols` values of each row: /= its rms, *= gain [cols].
  virtual void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                              float eps, HeadRows<BF16> x) = 0;
  /// sums[b] = sum of the squares of x[b, 0:cols], rows ldx apart.
  virtual void square_sums(std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx,
                           float* sums) = 0;
  /// x[b, 0:cols], a part of longer vectors: /= the rms of the whole, *= gain [cols].
  virtual void rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                             const SquareSums& whole, BF16* x, std::int64_t ldx) = 0;
  /// y[b, 0:cols] += bias, rows ldy apart.
  virtual void add_bias(std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y,
                        std::int64_t ldy) = 0;
  /// y[b, 0:cols] *= growth at positions[b], rows ldy apart.
  virtual void scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                                 const std::int64_t* positions, BF16* y, std::int64_t ldy) = 0;
  /// y[i] += x[i]
  virtual void add(std::int64_t count, const BF16* x, BF16* y) = 0;
  /// LayerNorm of each of the `heads` vectors of `cols` values of each row: minus its mean, / its standard deviation,
  /// * gain, + bias [heads, cols] (null: none).
  virtual void layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                                const BF16* bias, float eps, HeadRows<BF16> x) = 0;
  /// y[m, 0:n] = x[m, 0:k] W^T, rows ldx and ldy apart. m >= 1.
  virtual void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y,
                      std::int64_t ldy) = 0;
  virtual void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
                      std::int64_t ldy) = 0;
  /// For h in [0, w.count): y of head h, 0:n = x of head h, 0:k times W_h^T, in each row.
  virtual void linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w,
                               HeadRows<BF16> y) = 0;

  // --- attention
  /// Rotates the rope_dim values of each head by positions[b], writing to `out`, which may be `x`; there are
  /// no tables for rope_dim = 0.
  virtual void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads,
                    const std::int64_t* positions, HeadRows<const BF16> x, HeadRows<BF16> out) = 0;
  /// The types that a cache may have.
  virtual std::span<const DType> kv_dtypes() const = 0;
  /// Why this cache has no kernel here; empty if it has.
  virtual std::string why_not(const KvShape& shape) const = 0;
  /// The same of attention with so many query heads for each of a step's tokens.
  virtual std::string why_not_attended(const KvShape& shape, std::int64_t /*q_heads*/,
                                       std::int64_t /*query_tokens*/) const {
    return why_not(shape);
  }
  /// The kernels that a step over this cache takes: "amx-bf16", "attention avx512, linear amx-bf16" ...
  virtual std::string kernel_for(const KvShape& shape) const = 0;
  /// Throws UsageError, as every op on such a cache does, where `why_not` has a reason.
  virtual std::size_t kv_page_bytes(const KvShape& shape) const = 0;
  /// Writes k[r, 0:kv_heads*head_dim] and v[r, 0:kv_heads*v_dim] (rows ld apart, query_tokens of each request) at
  /// local token slots[r] of the request; slots[r] < 0: not here. The page table must cover the slot. MLA: `k` is the
  /// latent + rope row and `v` is not read.
  virtual void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                         std::int64_t ldk, const BF16* v, std::int64_t ldv) = 0;
  /// Norms K where there is a gain, rotates its heads, and appends it with V: the numbers that rms_norm_heads, rope and
  /// kv_append make of it one after the other, which it is unless a backend has one kernel for them.
  virtual void kv_append_new(const KvView& cache, std::int64_t batch, const NewTokens& tokens);
  /// Writes the synthetic history at local tokens [0, tokens) of requests [0, history.requests) of the view.
  virtual void kv_fill_history(const KvView& cache, const HistorySlice& history) = 0;
  /// Bytes of scratch memory that are enough for `attention` of every batch up to this one: a smaller batch,
  /// a piece of HOP-B or the last micro-batch, may need more than the whole. `q_heads`: of all rows of a request.
  virtual std::size_t attention_scratch_bytes(const KvShape& shape, std::int64_t most_requests,
                                              std::int64_t q_heads) const = 0;
  /// Flash-decode: q [rows, q_heads, head_dim] against the local tokens that each row attends, K and V being read
  /// once for all rows of a request. Query heads are split evenly over the KV heads in order. o [rows, q_heads, v_dim]
  /// = softmax(scale q k^T) v, lse [rows, q_heads] = natural log of sum exp(scale q k). A row with no local token: lse
  /// = -inf and o is undefined (our own kernels leave it unwritten). Throws std::logic_error, as moe_experts does, if `scratch` is too small for it.
  virtual void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale,
                         const BF16* q, BF16* o, float* lse, std::span<std::byte> scratch) = 0;
  /// Head h's softmax gets the score sinks[h] more, to which no value belongs: o [batch, heads, v_dim] *= exp(lse) /
  /// (exp(lse) + exp(sinks[h])), and lse becomes the log of that sum. Where lse = -inf, o = 0, whatever it was.
  virtual void add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float* sinks,
                         BF16* o, float* lse) = 0;
  /// o [batch, parts * heads, v_dim] and lse -> packed chunks, part p holding heads [p * heads, (p +
  /// 1) * heads).
  virtual void pack_partials(const PartialShape& shape, const BF16* o, const float* lse,
                             std::byte* packed) = 0;
  /// The exact merge of `parts` partials of the same heads: out [batch, heads * v_dim]. Parts with lse = -inf
  /// are selected away, never multiplied (their o may be NaN); all of them empty: out = 0.
  virtual void merge_partials(const PartialShape& shape, const std::byte* packed, BF16* out) = 0;

  // --- sparse attention: a cache of MLA's kind holds an indexer's keys, of which V is the whole
  /// best[b, 0:room]: the `room` best of the request's local tokens and their scores, in the order of the
  /// tokens, and then none. Of equal scores the lower token is the better. `scores`: scratch memory, `longest`
  /// floats for each request, no fewer than its tokens.
  virtual void index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t room,
                          ScoredToken* best, float* scores, std::int64_t longest) = 0;
  /// Of gathered [parts, batch, room] the chosen.room best of each request; of equal scores those of the lower
  /// part, and in it the lower token. `chosen` are those of part `mine`.
  virtual void choose_best(std::int64_t parts, std::int64_t mine, std::int64_t batch,
                           const ScoredToken* gathered, const ChosenTokens& chosen) = 0;
  /// Token i of request b in `to`, which has the shape of `from` and room for them, is from's tokens[b][i].
  virtual void gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen,
                             const KvView& to) = 0;

  // --- FFN
  /// out[m, j] = unit of gate_up[m, j] and gate_up[m, f + j].
  virtual void gated(const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up,
                     BF16* out) = 0;
  /// y[b, 0:cols] *= sigmoid(logits[b]).
  virtual void gate_rows(std::int64_t rows, std::int64_t cols, const float* logits, BF16* y) = 0;
  /// ids [batch, top_k] and weights [batch, top_k] from logits [batch, experts]; bias [experts] (softmax_topk: added to
  /// the logits, else for the choice only) or null. Ties go to the lower expert.
  virtual void route(const RouterShape& shape, std::int64_t batch, const float* logits, const float* bias,
                     std::int32_t* ids, float* weights) = 0;
  /// Bytes of scratch memory that are enough for `moe_experts` of every batch up to this one.
  virtual std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                                        std::int64_t ffn, std::int64_t local_experts) const = 0;
  /// out [batch, hidden] = sum over each token's choices of experts of this shard of weight *
  /// down_e(the unit of gate_up_e(x)). Only experts that some token chose are read. Accumulates over experts in
  /// fp32. With `shared` [batch, hidden] that is added too.
  virtual void moe_experts(std::int64_t batch, const BF16* x, const ExpertChoice& choice,
                           const ExpertShard& experts, const BF16* shared, BF16* out,
                           std::span<std::byte> scratch) = 0;

  // --- head
  /// top[b] = largest of logits[b, 0:cols] and its index + first_index; ties to the lower index; cols
  /// = 0: none.
  virtual void argmax(std::int64_t batch, std::int64_t cols, const float* logits, std::int64_t first_index,
                      TopLogit* top) = 0;
  /// tokens[b] = index of the largest of gathered[part * batch + b] over the parts; ties to the lower index.
  virtual void select_token(std::int64_t parts, std::int64_t batch, const TopLogit* gathered,
                            std::int32_t* tokens) = 0;
  /// The state of the next step in one cache: positions[b] += 1 (null: another cache's turn to say so). Where its token
  /// grows this rank's part, slots[b] = lengths[b] and lengths[b] += 1; where it replaces one, slots[b] is the slot
  /// behind the last one's, round the request's tokens.
  virtual void advance(std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
                       std::int64_t* lengths) = 0;
  /// The same where a step asks for several tokens and may end in another rank's turn: decoded[b] += accepted[b], and
  /// of each of the step's tokens the position, the local slot (-1: not this rank's) and the local tokens up to it.
  virtual void advance_rows(std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                            const StepState& state) = 0;
  /// What is copied does not overlap what it is copied to.
  virtual void copy_rows(const CopiedRows& copied) = 0;
};

}  // namespace helix
