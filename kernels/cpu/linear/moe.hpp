// Mixture-of-experts FFN on the CPU. Semantics as the like-named members of DecodeOps (ops.hpp); the experts
// of a token are distinct. The tokens of one expert go through the matrix products of linear.hpp together, so
// that each active expert's weights are read once and those of the others not at all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cpu {

std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                              std::int64_t ffn, std::int64_t local_experts);

void moe_experts(std::int64_t batch, const BF16* x, const ExpertChoice& choice, const ExpertShard& experts,
                 const BF16* shared, BF16* out, std::span<std::byte> scratch, int threads);

}  // namespace helix::cpu
