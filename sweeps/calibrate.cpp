#include "sweeps/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "kernels/mpi_check.hpp"
#include "kernels/mpi_communicator.hpp"
#include "sweeps/kernel_probes.hpp"
#include "sweeps/prober.hpp"
#include "sweeps/statistics.hpp"

namespace helix {
namespace {

using Clock = std::chrono::steady_clock;

/// alpha-beta of each collective in groups of 2, 4, ... and all ranks of the group, all such groups at once.
std::vector<CollectiveRate> probe_collectives(Backend& backend, const Prober& prober, MPI_Comm group) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(group, &rank));
  HELIX_MPI(MPI_Comm_size(group, &size));
  constexpr std::size_t small = 1024, large = std::size_t{256} << 10;  // payload bytes
  auto send = backend.allocate(large);
  auto recv = backend.allocate(large);
  backend.set_bytes(send->data(), 0, large);
  backend.set_bytes(recv->data(), 0, large);

  std::vector<int> widths;
  for (int g = 2; g < size; g *= 2) {
    if (size % g == 0) widths.push_back(g);
  }
  if (size > 1) widths.push_back(size);

  std::vector<CollectiveRate> rates;
  for (int width : widths) {
    MPI_Comm part = MPI_COMM_NULL;
    HELIX_MPI(MPI_Comm_split(group, rank / width, rank, &part));
    const std::unique_ptr<Communicator> comm = make_mpi_communicator(part);
    const auto run = [&](Collective op, std::size_t payload) {
      const std::size_t chunk = payload / static_cast<std::size_t>(width) / 16 * 16;
      // A number of calls that every rank knows: deciding by the clock would deadlock.
      constexpr int calls = 200, rounds = 5;
      std::vector<double> series;
      for (int r = 0; r < rounds; ++r) {
        const Clock::time_point begin = Clock::now();
        for (int i = 0; i < calls; ++i) {
          if (op == Collective::all_reduce)
            comm->all_reduce_sum(reinterpret_cast<BF16*>(send->data()),
                                 static_cast<std::int64_t>(payload / 2));
          if (op == Collective::all_gather) comm->all_gather(send->data(), recv->data(), chunk);
          if (op == Collective::all_to_all) comm->all_to_all(send->data(), recv->data(), chunk);
        }
        series.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count() / calls);
      }
      return prober.slowest(median(series));
    };
    for (Collective op : {Collective::all_reduce, Collective::all_gather, Collective::all_to_all}) {
      const double alpha = run(op, small), big = run(op, large);
      rates.push_back(
          {.op = op,
           .group = width,
           .alpha_us = alpha,
           .bytes_per_s = static_cast<double>(large - small) / std::max(big - alpha, 0.01 * big) * 1e6});
    }
  }
  return rates;
}

std::vector<HeadShape> head_shapes(const CalibrationRequest& request, AttentionKind kind, int ranks) {
  std::vector<HeadShape> shapes;
  for (const ModelSpec& model : request.models) {
    const AttentionSpec& a = model.attention;
    if (a.kind != kind) continue;
    if (kind == AttentionKind::gqa) {
      shapes.push_back({kind, a.q_heads, a.kv_heads, a.qk_head_dim, a.v_head_dim});
    } else {
      const std::int64_t width = a.kv_lora_rank + a.qk_rope_head_dim;
      shapes.push_back({kind, a.q_heads, 1, width, a.kv_lora_rank});
      if (ranks > 1 && a.q_heads % ranks == 0)
        shapes.push_back({kind, a.q_heads / ranks, 1, width, a.kv_lora_rank});
    }
  }
  if (!shapes.empty() || !request.models.empty()) return shapes;
  if (kind == AttentionKind::mla) return {{kind, 16, 1, 576, 512}, {kind, 128, 1, 576, 512}};
  return {{kind, 32, 8, 128, 128}, {kind, 128, 8, 128, 128}};
}

}  // namespace

SystemSpec calibrate(Backend& backend, MPI_Comm group, const World& world, const CalibrationRequest& request,
                     std::unique_ptr<Buffer>& memory) {
  int ranks = 1;
  HELIX_MPI(MPI_Comm_size(group, &ranks));
  const int node_ranks = std::min(ranks, world.node_ranks);
  constexpr double cache_multiple = 4;
  constexpr std::size_t least = std::size_t{128} << 20;
  const auto wanted =
      static_cast<std::size_t>(cache_multiple * static_cast<double>(world.node_cache_bytes) / node_ranks);
  const std::size_t bytes = std::min(std::max(wanted, least), world.memory_bytes / 2) >> 21 << 21;
  const ColdMemory cold(backend, bytes, memory);
  const Prober prober(backend, group, request.seconds_per_probe);

  SystemSpec system;
  system.name = fmt::format("{}-r{}", world.host, ranks);
  system.device = backend.device_name();
  system.calibrated = true;
  system.sms = backend.threads();
  system.dram.capacity_bytes = static_cast<double>(world.memory_bytes);
  HELIX_MPI(MPI_Barrier(group));
  system.dram.achieved_bytes_per_s =
      prober.least(backend.read_bandwidth_bytes_per_s({cold.data(), cold.bytes()}, 3 * prober.seconds()));
  system.dram.datasheet_bytes_per_s = system.dram.achieved_bytes_per_s;
  HELIX_MPI(MPI_Barrier(group));
  system.peak_flops.bf16 = prober.least(backend.matrix_peak_flops_per_s(DType::bf16, prober.seconds()));
  system.peak_flops.fp8 = system.peak_flops.fp4 = system.peak_flops.bf16;  // de-quantised to bf16 first

  const ModelSpec* moe = nullptr;
  for (const ModelSpec& model : request.models) {
    if (model.moe.experts > 0) moe = &model;
  }
  // A router is bf16 whatever the other weights are.
  std::vector<DType> weight_dtypes{DType::bf16};
  for (const DType dtype : request.weight_dtypes)
    if (dtype != DType::bf16) weight_dtypes.push_back(dtype);
  for (const DType dtype : weight_dtypes) {
    system.kernels.push_back(probe_gemm(backend, prober, cold, dtype));
    system.kernels.push_back(
        probe_moe(backend, prober, cold, dtype, moe ? moe->hidden : 2048, moe ? moe->moe.expert_ffn : 1408));
  }
  std::vector<DType> kv_dtypes = request.kv_dtypes;
  std::ranges::partition(kv_dtypes, [](DType dtype) { return dtype == DType::bf16; });
  for (const DType dtype : kv_dtypes) {
    for (const AttentionKind kind : {AttentionKind::gqa, AttentionKind::mla}) {
      const std::vector<HeadShape> shapes = head_shapes(request, kind, ranks);
      if (!shapes.empty()) system.kernels.push_back(probe_attention(backend, prober, cold, dtype, shapes));
    }
  }
  system.kernels.push_back(probe_elementwise(backend, prober));
  system.collectives = probe_collectives(backend, prober, group);
  // Ranks of a node exchange through its memory; what a message really takes stands in the collectives.
  system.link = {.bytes_per_s = system.dram.achieved_bytes_per_s,
                 .domain = static_cast<double>(ranks),
                 .beyond_bytes_per_s = system.dram.achieved_bytes_per_s,
                 .beyond_latency_us = 0};
  const std::string origin = fmt::format("measured on {} with {} ranks at once, {} threads each, kernels {}",
                                         world.host, ranks, backend.threads(), backend.kernel_path());
  for (const char* section : {"dram", "peak_flops", "link", "kernels", "collectives"})
    system.origin[section] = origin;
  return system;
}

}  // namespace helix
