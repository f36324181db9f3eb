// Which part of every weight matrix a rank holds, as slices of the whole tensors.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ops/ops.hpp"
#include "roofline/step/rank_plan.hpp"

namespace helix {

/// The packed matrices of a rank as the decode step uses them.
enum class Weight : std::uint8_t {
  // Attention, GQA: Q, K and V heads of the rank, one product.
  qkv,
  // Attention, MLA: Q in one product (q) or two (q_a replicated, q_b); the latent
  // (replicated); per-head products.
  q,
  q_a,
  q_b,
  kv_a,
  w_uk,  // of the heads the rank attends with
  w_uv,  // of the heads the rank owns after the all-to-all
  o,     // columns of the owned heads
  // Of sparse attention's indexer, replicated.
  index_q,
  index_k,
  index_weights,
  // FFN, on the ranks that have one. Dense and shared experts are cut over all of them, routed experts over
  // tpf x ep. Ranks that attend whole requests have the shared experts whole, for those requests.
  gate_up,
  down,
  router,  // replicated
  expert_gate_up,
  expert_down,
  shared_gate_up,
  shared_down,
  shared_expert_gate,  // replicated
  draft_input,         // replicated
  count
};
inline constexpr std::size_t weight_kinds = static_cast<std::size_t>(Weight::count);

/// Packed matrices [n, k] still to be filled: matrices[i] lists the slices stacked along n of matrix i.
struct MatrixPlan {
  std::vector<std::vector<WeightSlice>> matrices;
  std::int64_t n() const;
  std::int64_t k() const;
  bool empty() const { return matrices.empty(); }
  bool operator==(const MatrixPlan&) const = default;
};

using LayerPlan = std::array<MatrixPlan, weight_kinds>;

LayerPlan plan_layer(const RankPlan& rank, std::int64_t layer);

/// Some values of a tensor of one dimension.
struct VectorSlice {
  Tensor tensor{};
  Range values;
};
/// The biases of a rank's products, each from tensors one behind the other; empty where it has none. What is added
/// to sums over ranks is so on one of them.
struct BiasPlan {
  std::vector<VectorSlice> qkv, o, gate_up, down;
  std::vector<VectorSlice> expert_gate_up, expert_down;  // of one local expert after the other
};
BiasPlan plan_biases(const RankPlan& rank, std::int64_t layer);
/// Values of the norms of queries and keys that a rank has: those of its heads, where they have gains of their own.
Range norm_values(const RankPlan& rank, Tensor tensor);
/// The heads whose sinks a rank adds: each head's are so on the first KVP rank.
Range sink_heads(const RankPlan& rank);

}  // namespace helix
