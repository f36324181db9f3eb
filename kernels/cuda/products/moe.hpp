// Mixture-of-experts FFN on a GPU. Semantics as the like-named members of DecodeOps (ops.hpp). Which experts
// are active and how many tokens they have is only known on the device; the host launches for the most there
// can be.
#pragma once

#include "kernels/cuda/device/stream.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cuda {

/// The scratch memory's parts. An assignment is one choice of one token; a row holds the results of a local
/// one, ordered by expert.
struct MoeScratch {
  std::int32_t* starts;        // [experts + 1] first row of each local expert
  std::int32_t* active;        // [experts] those that have rows, in front
  std::int32_t* active_count;  // [1]
  std::int32_t* tokens;        // [assignments] the token of each row
  std::int32_t* rows;          // [assignments] the row of each assignment, -1: the expert is elsewhere
  BF16* activated;             // [assignments, ffn]
  float* expert_out;           // [assignments, hidden]

  /// Takes its parts from `carver`.
  MoeScratch(Carver& carver, std::int64_t assignments, std::int64_t hidden, std::int64_t ffn,
             std::int64_t experts);
};

/// Sorts the choices `ids` [batch, top_k] of local experts [first_expert, first_expert + experts) by expert,
/// in the order of the batch.
void group_by_expert(Stream stream, std::int64_t batch, std::int64_t top_k, const std::int32_t* ids,
                     std::int64_t first_expert, std::int64_t experts, const MoeScratch& scratch);

/// scratch.activated = the unit of gate_up_e(x) for every row, then scratch.expert_out = down_e(activated).
void expert_products(Stream stream, std::int64_t batch, std::int64_t top_k, const BF16* x,
                     const ExpertShard& shard, const MoeScratch& scratch);

/// out[b] = shared[b] (or 0) + sum over the local choices i of weights[b, i] * their row, in the
/// order of choice.
void combine_experts(Stream stream, std::int64_t batch, std::int64_t top_k, std::int64_t hidden,
                     const float* weights, const BF16* shared, BF16* out, const MoeScratch& scratch);

std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                              std::int64_t ffn, std::int64_t local_experts);

void moe_experts(Stream stream, std::int64_t batch, const BF16* x, const ExpertChoice& choice,
                 const ExpertShard& experts, const BF16* shared, BF16* out, std::span<std::byte> scratch);

}  // namespace helix::cuda
