// Sorting tokens by expert before the experts' products and adding up after them. The scan over the experts,
// a few hundred, and the counting sort of the assignments take one block and one launch. (A device-wide scan
// and sort of CUB would be several launches with scratch memory of their own, at this size all latency, and
// could not run on the emulated GPU that every kernel here is tested on.)
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/products/moe.hpp"

#include "kernels/cuda/device/vector_access.cuh"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroupThreads = 1024;

HELIX_DEVICE int bits_set(unsigned x) {
  int count = 0;
  for (; x != 0; x &= x - 1) ++count;
  return count;
}

/// Bits of the lanes below this one.
HELIX_DEVICE unsigned lower_lanes() {
  return (1u << lane_index()) - 1;
}

// A warp takes an expert and walks through the assignments 32 at a time: once to count, once, when all starts
// are known, to place. Nothing depends on the order in which warps run.
HELIX_KERNEL HELIX_BOUNDS(kGroupThreads,
                          1) void group_kernel(std::int64_t assignments, std::int64_t top_k,
                                               Global<const std::int32_t> ids, std::int64_t first_expert,
                                               int experts, Global<std::int32_t> starts,
                                               Global<std::int32_t> active, Global<std::int32_t> active_count,
                                               Global<std::int32_t> tokens, Global<std::int32_t> rows) {
  const int warp = warp_index(), warps = kGroupThreads / kWarp, lane = lane_index();
  const Shared<int> counts = shared_memory<int>();  // [experts], then the starts

  for (int e = warp; e < experts; e += warps) {
    int count = 0;
    for (std::int64_t i = lane; i - lane < assignments; i += kWarp) {
      std::int32_t id = -1;
      if (i < assignments) id = ids[i];
      count += bits_set(ballot(id == first_expert + e));
    }
    if (lane == 0) counts[e] = count;
  }
  block_sync();
  if (warp == 0) {
    int rows_before = 0, active_before = 0;
    for (int base = 0; base < experts; base += kWarp) {
      const int e = base + lane;
      int count = 0;
      if (e < experts) count = counts[e];
      int up_to_here = count;  // inclusive prefix sum over the lanes
      HELIX_UNROLL
      for (int distance = 1; distance < kWarp; distance *= 2) {
        const int below = shuffle(up_to_here, lane < distance ? lane : lane - distance);
        if (lane >= distance) up_to_here += below;
      }
      const unsigned used = ballot(count > 0);
      if (e < experts) {
        const int start = rows_before + up_to_here - count;
        counts[e] = start;
        starts[e] = start;
        if (count > 0) active[active_before + bits_set(used & lower_lanes())] = e;
      }
      rows_before += shuffle(up_to_here, kWarp - 1);
      active_before += bits_set(used);
    }
    if (lane == 0) {
      starts[experts] = rows_before;
      active_count[0] = active_before;
    }
  }
  block_sync();
  for (int e = warp; e < experts; e += warps) {
    int row = counts[e];
    for (std::int64_t i = lane; i - lane < assignments; i += kWarp) {
      std::int32_t id = -1;
      if (i < assignments) id = ids[i];
      const bool here = id == first_expert + e;
      const unsigned all_here = ballot(here);
      if (here) {
        const int mine = row + bits_set(all_here & lower_lanes());
        tokens[mine] = static_cast<std::int32_t>(i / top_k);
        rows[i] = mine;
      }
      row += bits_set(all_here);
    }
  }
  for (std::int64_t i = threadIdx.x; i < assignments; i += kGroupThreads) {
    const std::int32_t id = ids[i];
    if (id < first_expert || id >= first_expert + experts) rows[i] = -1;
  }
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void combine_kernel(std::int64_t top_k, std::int64_t hidden,
                                                           Global<const float> weights,
                                                           Global<const std::int32_t> rows,
                                                           Global<const float> expert_out, bool with_shared,
                                                           Global<const BF16> shared, Global<BF16> out) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= hidden) return;
  const std::int64_t b = blockIdx.y;
  float sum = 0.0f;
  if (with_shared) {
    const BF16 x = shared[b * hidden + column];
    sum = to_float(x);
  }
  for (std::int64_t i = b * top_k; i < (b + 1) * top_k; ++i) {
    const std::int32_t row = rows[i];
    if (row < 0) continue;
    const float weight = weights[i], y = expert_out[row * hidden + column];
    sum += weight * y;
  }
  out[b * hidden + column] = to_bf16(sum);
}

}  // namespace

MoeScratch::MoeScratch(Carver& carver, std::int64_t assignments, std::int64_t hidden, std::int64_t ffn,
                       std::int64_t experts)
    : starts(carver.take<std::int32_t>(experts + 1)),
      active(carver.take<std::int32_t>(experts)),
      active_count(carver.take<std::int32_t>(1)),
      tokens(carver.take<std::int32_t>(assignments)),
      rows(carver.take<std::int32_t>(assignments)),
      activated(carver.take<BF16>(assignments * ffn)),
      expert_out(carver.take<float>(assignments * hidden)) {}

void group_by_expert(Stream stream, std::int64_t batch, std::int64_t top_k, const std::int32_t* ids,
                     std::int64_t first_expert, std::int64_t experts, const MoeScratch& scratch) {
  launch(group_kernel, Dim3(1), Dim3(kGroupThreads), static_cast<std::size_t>(experts) * sizeof(int), stream,
         batch * top_k, top_k, ids, first_expert, static_cast<int>(experts), scratch.starts, scratch.active,
         scratch.active_count, scratch.tokens, scratch.rows);
}

void combine_experts(Stream stream, std::int64_t batch, std::int64_t top_k, std::int64_t hidden,
                     const float* weights, const BF16* shared, BF16* out, const MoeScratch& scratch) {
  launch(combine_kernel, Dim3(blocks_for(hidden, kThreads), static_cast<unsigned>(batch)), Dim3(kThreads), 0,
         stream, top_k, hidden, weights, scratch.rows, scratch.expert_out, shared != nullptr, shared, out);
}

std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                              std::int64_t ffn, std::int64_t local_experts) {
  return carved_bytes<MoeScratch>(Carver(), most_requests * top_k, hidden, ffn, local_experts);
}

void moe_experts(Stream stream, std::int64_t batch, const BF16* x, const ExpertChoice& choice,
                 const ExpertShard& experts, const BF16* shared, BF16* out, std::span<std::byte> scratch) {
  const PackedWeight &gate_up = experts.gate_up, &down = experts.down;
  require_scratch("moe_experts", batch, moe_scratch_bytes(batch, choice.top_k, down.n, down.k, gate_up.count),
                  scratch);
  const auto parts = carved<MoeScratch>(scratch.data(), batch * choice.top_k, down.n, down.k, gate_up.count);
  group_by_expert(stream, batch, choice.top_k, choice.ids, experts.first, gate_up.count, parts);
  expert_products(stream, batch, choice.top_k, x, experts, parts);
  combine_experts(stream, batch, choice.top_k, down.n, choice.weights, shared, out, parts);
}

}  // namespace helix::cuda
