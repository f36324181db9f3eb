#include "kernels/cpu/linear/moe.hpp"

#include <algorithm>

#include "kernels/cpu/linear/linear_rows.hpp"
#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/memory.hpp"

namespace helix::cpu {
namespace {

// The scratch memory's parts.
struct Scratch {
  float* sum;            // [batch, hidden] over experts
  float* expert_out;     // [tokens of one expert, hidden]
  BF16* gate_up;         // [tokens of one expert, 2 ffn]
  BF16* activated;       // [tokens of one expert, ffn]
  std::int32_t* tokens;  // the tokens of each expert, one expert after the other
  float* weights;        // their weights
  std::int32_t* starts;  // [local experts + 1] where each expert's tokens start

  Scratch(Carver& carver, std::int64_t batch, std::int64_t top_k, std::int64_t hidden, std::int64_t ffn,
          std::int64_t local_experts)
      : sum(carver.take<float>(batch * hidden)),
        expert_out(carver.take<float>(batch * hidden)),
        gate_up(carver.take<BF16>(batch * 2 * ffn)),
        activated(carver.take<BF16>(batch * ffn)),
        tokens(carver.take<std::int32_t>(batch * top_k)),
        weights(carver.take<float>(batch * top_k)),
        starts(carver.take<std::int32_t>(local_experts + 1)) {}
};

// Sorts the (token, weight) pairs by local expert; pairs of other ranks' experts are left out.
void group_by_expert(std::int64_t batch, const ExpertChoice& choice, std::int64_t first_expert,
                     std::int64_t experts, const Scratch& s) {
  const std::int32_t* const ids = choice.ids;
  const std::int64_t top_k = choice.top_k;
  std::fill_n(s.starts, experts + 1, 0);
  const auto local = [&](std::int64_t i) { return ids[i] - first_expert; };
  const auto is_local = [&](std::int64_t i) { return local(i) >= 0 && local(i) < experts; };
  for (std::int64_t i = 0; i < batch * top_k; ++i)
    if (is_local(i)) ++s.starts[local(i) + 1];
  for (std::int64_t e = 0; e < experts; ++e) s.starts[e + 1] += s.starts[e];
  // Each start moves to the end of its expert's tokens, which is the next one's start ...
  for (std::int64_t i = 0; i < batch * top_k; ++i) {
    if (!is_local(i)) continue;
    const std::int32_t at = s.starts[local(i)]++;
    s.tokens[at] = static_cast<std::int32_t>(i / top_k);
    s.weights[at] = choice.weights[i];
  }
  // ... so they are one place too early now.
  std::copy_backward(s.starts, s.starts + experts, s.starts + experts + 1);
  s.starts[0] = 0;
}

PackedWeight expert(const PackedWeight& w, std::int64_t e) {
  PackedWeight one = w;
  one.data += static_cast<std::size_t>(e) * w.stride_bytes;
  one.count = 1;
  return one;
}

}  // namespace

std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                              std::int64_t ffn, std::int64_t local_experts) {
  return carved_bytes<Scratch>(Carver(), most_requests, top_k, hidden, ffn, local_experts);
}

void moe_experts(std::int64_t batch, const BF16* x, const ExpertChoice& choice, const ExpertShard& experts,
                 const BF16* shared, BF16* out, std::span<std::byte> scratch, int threads) {
  const PackedWeight &gate_up = experts.gate_up, &down = experts.down;
  const std::int64_t hidden = down.n, ffn = down.k;
  require_scratch("moe_experts", batch, moe_scratch_bytes(batch, choice.top_k, hidden, ffn, gate_up.count),
                  scratch);
  const Scratch s = carved<Scratch>(scratch.data(), batch, choice.top_k, hidden, ffn, gate_up.count);
  group_by_expert(batch, choice, experts.first, gate_up.count, s);
  for (std::int64_t i = 0; i < batch * hidden; ++i) s.sum[i] = shared == nullptr ? 0.0f : to_float(shared[i]);

  for (std::int64_t e = 0; e < gate_up.count; ++e) {
    const std::int32_t* tokens = s.tokens + s.starts[e];
    const std::int64_t m = s.starts[e + 1] - s.starts[e];
    if (m == 0) continue;
    linear_rows({x, hidden, tokens, m}, expert(gate_up, e), s.gate_up, 2 * ffn, threads);
    if (experts.gate_up_bias != nullptr)
      add_bias(m, 2 * ffn, experts.gate_up_bias + e * 2 * ffn, s.gate_up, 2 * ffn);
    gated(experts.unit, m, ffn, s.gate_up, s.activated, threads);
    linear_rows({s.activated, ffn, nullptr, m}, expert(down, e), s.expert_out, hidden, threads);
    for (std::int64_t i = 0; i < m; ++i) {
      const float weight = s.weights[s.starts[e] + i];
      float* sum = s.sum + tokens[i] * hidden;
      const float* y = s.expert_out + i * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) sum[j] += weight * y[j];
      if (experts.down_bias == nullptr) continue;
      const BF16* const bias = experts.down_bias + e * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) sum[j] += weight * to_float(bias[j]);
    }
  }
  for (std::int64_t i = 0; i < batch * hidden; ++i) out[i] = to_bf16(s.sum[i]);
}

}  // namespace helix::cpu
