#include "sweeps/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/communicator.hpp"
#include "kernels/memory.hpp"
#include "kernels/mpi_check.hpp"
#include "kernels/mpi_communicator.hpp"
#include "sweeps/kernel_probes.hpp"
#include "sweeps/prober.hpp"
#include "sweeps/statistics.hpp"

namespace helix {
namespace {

/// alpha-beta of each collective in groups of every size that divides the ranks evenly, all such groups at
/// once.
std::vector<CollectiveRate> probe_collectives(Backend& backend, Prober& prober, MPI_Comm group) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(group, &rank));
  HELIX_MPI(MPI_Comm_size(group, &size));
  constexpr std::size_t small = 1024, large = std::size_t{256} << 10;  // payload bytes
  auto send = backend.allocate(large);
  auto recv = backend.allocate(large);
  backend.set_bytes(send->data(), 0, large);
  backend.set_bytes(recv->data(), 0, large);

  std::vector<CollectiveRate> rates;
  for (int width = 2; width <= size; ++width) {
    if (size % width != 0) continue;
    MPI_Comm part = MPI_COMM_NULL;
    HELIX_MPI(MPI_Comm_split(group, rank / width, rank, &part));
    const std::unique_ptr<Communicator> comm = backend.connect({part});
    const auto call = [&](Collective op, std::size_t payload) {
      const std::size_t chunk = payload / static_cast<std::size_t>(width) / 16 * 16;
      auto* values = reinterpret_cast<BF16*>(send->data());
      const int next = (comm->rank() + 1) % width, previous = (comm->rank() + width - 1) % width;
      switch (op) {
        case Collective::all_reduce:
          return comm->all_reduce_sum(values, static_cast<std::int64_t>(payload / sizeof(BF16)));
        case Collective::all_gather:
          return comm->all_gather(send->data(), recv->data(), chunk);
        case Collective::all_to_all:
          return comm->all_to_all(send->data(), recv->data(), chunk);
        case Collective::reduce_scatter:
          return comm->reduce_scatter_rows(values, width, static_cast<std::int64_t>(chunk / sizeof(BF16)));
        case Collective::send:  // as the stages of a pipeline do: all at once, in a ring
          return comm->exchange(send->data(), payload, next, recv->data(), payload, previous);
      }
    };
    const auto run = [&](Collective op, std::size_t payload) {
      const auto repeated = [&](int calls) {
        return [&, calls] {
          for (int i = 0; i < calls; ++i) call(op, payload);
        };
      };
      call(op, payload);  // connects
      backend.synchronize();
      // As many calls as every rank knows, fewer on a slow link: deciding by a rank's own clock would
      // deadlock.
      constexpr double round_us = 2e4, most = 200;
      constexpr int bursts = 3, first_calls = 3;
      const double first_us = TimedOps(backend, repeated(first_calls)).run_us() / first_calls;
      const auto calls = static_cast<int>(std::clamp(round_us / prober.slowest(first_us), 1.0, most));
      TimedOps timed(backend, repeated(calls));
      std::vector<double> series;
      for (int burst = 0; burst < bursts; ++burst) series.push_back(timed.run_us() / calls);
      return prober.us(median(series));
    };
    for (Collective op : {Collective::all_reduce, Collective::all_gather, Collective::all_to_all,
                          Collective::reduce_scatter, Collective::send}) {
      const double alpha = run(op, small), big = run(op, large);
      rates.push_back(
          {.op = op,
           .group = width,
           .alpha_us = alpha,
           .bytes_per_s = static_cast<double>(large - small) / std::max(big - alpha, 0.01 * big) * 1e6,
           .spread = prober.take_spread()});
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

void probe_ceilings(Backend& backend, Prober& prober, const ColdMemory& cold, MPI_Comm group,
                    SystemSpec& system) {
  HELIX_MPI(MPI_Barrier(group));  // all ranks share the memory while they read it
  system.dram.achieved_bytes_per_s =
      prober.ceiling(backend.read_bandwidth_bytes_per_s({cold.data(), cold.bytes()}, 3 * prober.seconds()));
  system.dram.datasheet_bytes_per_s = system.dram.achieved_bytes_per_s;
  system.dram.spread = prober.take_spread();
  system.peak_flops.bf16 = prober.ceiling(backend.matrix_peak_flops_per_s(DType::bf16, prober.seconds()));
  system.peak_flops.fp8 = system.peak_flops.fp4 =
      system.peak_flops.bf16;  // widened, or terms that add up to as much
  system.peak_flops.spread = prober.take_spread();
}

/// All but attention.
std::vector<KernelRate> probe_kernels(Backend& backend, Prober& prober, const ColdMemory& cold,
                                      const CalibrationRequest& request) {
  const auto moe = std::ranges::find_if(request.models, [](const ModelSpec& m) { return m.moe.experts > 0; });
  const bool found = moe != request.models.end();
  std::vector<DType> weight_dtypes{DType::bf16};  // a router's, whatever the other weights are
  for (const DType dtype : request.weight_dtypes)
    if (dtype != DType::bf16) weight_dtypes.push_back(dtype);
  std::vector<KernelRate> rates;
  for (const DType dtype : weight_dtypes) {
    rates.push_back(probe_gemm(backend, prober, cold, dtype));
    rates.push_back(probe_moe(backend, prober, cold, dtype, found ? moe->hidden : 2048,
                              found ? moe->moe.expert_ffn : 1408));
  }
  rates.push_back(probe_elementwise(backend, prober));
  return rates;
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
  std::vector<DType> dtypes{DType::bf16};
  for (const DType dtype : request.kv_dtypes) {
    if (dtype != DType::bf16) dtypes.push_back(dtype);
  }
  const std::size_t bytes =
      std::min(std::max(wanted, least), world.memory_bytes / 2 / dtypes.size()) >> 21 << 21;
  std::byte* const base = ensure(backend, memory, dtypes.size() * bytes);
  std::vector<ColdMemory> cold;
  for (std::size_t i = 0; i < dtypes.size(); ++i)
    cold.emplace_back(backend, std::span(base + i * bytes, bytes), dtypes[i]);
  Prober prober(backend, group, request.effort);

  SystemSpec system;
  system.name = fmt::format("{}-r{}", world.host, ranks);
  system.device = backend.device_name();
  system.calibrated = true;
  system.sms = backend.threads();
  system.dram.capacity_bytes = static_cast<double>(world.memory_bytes);
  prober.rounds([&] {
    probe_ceilings(backend, prober, cold.front(), group, system);
    system.kernels = probe_kernels(backend, prober, cold.front(), request);
    for (std::size_t i = 0; i < dtypes.size(); ++i) {
      if (std::ranges::count(request.kv_dtypes, dtypes[i]) == 0) continue;
      for (const AttentionKind kind : {AttentionKind::gqa, AttentionKind::mla}) {
        const std::vector<HeadShape> shapes = head_shapes(request, kind, ranks);
        if (!shapes.empty())
          system.kernels.push_back(probe_attention(backend, prober, cold[i], dtypes[i], shapes));
      }
    }
    system.collectives = probe_collectives(backend, prober, group);
  });
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
