// One MoE layer of DeepSeek-V2-Lite with cold experts: hidden 2048, 64 experts of 1408, 6 per token.
// Arguments: tokens, threads.
#include "bench/micro/cold_samples.hpp"
#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/moe.hpp"

namespace helix {
namespace {

void moe_experts(benchmark::State& state) {
  constexpr std::int64_t hidden = 2048, ffn = 1408, experts = 64, top_k = 6;
  const std::int64_t batch = state.range(0);
  const int threads = static_cast<int>(state.range(1));

  const std::size_t gate_up_bytes = cpu::packed_bytes(2 * ffn, hidden, DType::bf16);
  const std::size_t down_bytes = cpu::packed_bytes(hidden, ffn, DType::bf16);
  std::byte* const memory = cold_buffer().data();
  const PackedWeight gate_up{memory, 2 * ffn, hidden, experts, gate_up_bytes, DType::bf16};
  const PackedWeight down{memory + experts * gate_up_bytes, hidden, ffn, experts, down_bytes, DType::bf16};
  for (std::int64_t e = 0; e < experts; ++e) {
    const WeightSlice up_slice{1, 0, 0, 2 * ffn, hidden, 0.03125f},
        down_slice{2, 0, 0, hidden, ffn, 0.03125f};
    cpu::fill_weight(gate_up, e, {&up_slice, 1}, threads);
    cpu::fill_weight(down, e, {&down_slice, 1}, threads);
  }

  // Token b of step s takes the experts from (s * batch + b) * 6 on, in strides of 11, which visits all
  // 64 in turn.
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch * top_k));
  std::int32_t next = 0;
  const std::vector<float> weights(ids.size(), 1.0f / top_k);
  const std::vector<BF16> x(static_cast<std::size_t>(batch * hidden), to_bf16(0.5f));
  std::vector<BF16> out(x.size());
  std::vector<std::byte> scratch(cpu::moe_scratch_bytes(batch, top_k, hidden, ffn, experts));
  const auto active = static_cast<double>(std::min(experts, batch * top_k));
  const double bytes = active * static_cast<double>(gate_up_bytes + down_bytes);
  const double flops = static_cast<double>(batch * top_k) * 6.0 * static_cast<double>(hidden * ffn);
  sample_against_roofline(state, bytes, flops, threads, [&] {
    for (std::int32_t& id : ids) id = (next += 11) % experts;
    cpu::moe_experts(batch, x.data(), {ids.data(), weights.data(), top_k}, {0, gate_up, down}, nullptr,
                     out.data(), scratch, threads);
  });
}
BENCHMARK(moe_experts)
    ->ArgsProduct({{1, 2, 4, 8, 32}, {1, 2}})
    ->ArgNames({"tokens", "threads"})
    ->UseManualTime()
    ->MinTime(0.3);

}  // namespace
}  // namespace helix
