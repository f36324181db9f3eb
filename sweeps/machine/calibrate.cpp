#include "sweeps/machine/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/ops/work_counter.hpp"
#include "sweeps/machine/collective_probes.hpp"
#include "sweeps/machine/kernel_probes.hpp"

namespace helix {
namespace {

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

std::vector<IndexerSpec> indexers(const CalibrationRequest& request) {
  std::vector<IndexerSpec> specs;
  for (const ModelSpec& model : request.models)
    if (model.attention.indexer.heads > 0) specs.push_back(model.attention.indexer);
  if (request.models.empty()) specs.push_back({.heads = 64, .head_dim = 128, .top_k = 2048});
  return specs;
}

/// All but attention.
std::vector<Pending<KernelRate>> probe_kernels(Backend& backend, Prober& prober, const ColdMemory& cold,
                                               const CalibrationRequest& request) {
  const auto moe = std::ranges::find_if(request.models, [](const ModelSpec& m) { return m.moe.experts > 0; });
  const bool found = moe != request.models.end();
  std::vector<DType> weight_dtypes{DType::bf16};  // a router's, whatever the other weights are
  for (const DType dtype : request.weight_dtypes)
    if (dtype != DType::bf16) weight_dtypes.push_back(dtype);
  std::vector<Pending<KernelRate>> rates;
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
  for (std::size_t i = 0; i < dtypes.size(); ++i) {
    cold.emplace_back(backend, std::span(base + i * bytes, bytes), dtypes[i]);
    note_work();  // gigabytes on large machines
  }
  Prober prober(backend, group, request.effort);

  // Long enough for each pattern of reading to be tried, and each kind of instruction.
  const Figure& read = prober.ceiling([&] {
    return backend.read_bandwidth_bytes_per_s({cold.front().data(), cold.front().bytes()}, 0.05);
  });
  const Figure& multiply =
      prober.ceiling([&] { return backend.matrix_peak_flops_per_s(DType::bf16, 0.002); });
  const Figure* const cycle =
      backend.core_clock_hz() > 0 ? &prober.ceiling([&] { return backend.core_clock_hz(); }) : nullptr;
  std::vector<Pending<KernelRate>> kernels = probe_kernels(backend, prober, cold.front(), request);
  for (std::size_t i = 0; i < dtypes.size(); ++i) {
    if (std::ranges::count(request.kv_dtypes, dtypes[i]) == 0) continue;
    for (const AttentionKind kind : {AttentionKind::gqa, AttentionKind::mla}) {
      std::vector<HeadShape> shapes = head_shapes(request, kind, ranks);
      std::erase_if(shapes, [&](const HeadShape& h) { return !backend.why_not(h.cache(dtypes[i])).empty(); });
      if (!shapes.empty()) kernels.push_back(probe_attention(backend, prober, cold[i], dtypes[i], shapes));
    }
    std::vector<IndexerSpec> specs = indexers(request);
    std::erase_if(specs, [&](const IndexerSpec& spec) {
      return !backend.why_not(index_keys(spec, dtypes[i])).empty();
    });
    if (!specs.empty()) kernels.push_back(probe_indexer(backend, prober, cold[i], dtypes[i], specs));
  }
  const auto collectives = probe_collectives(backend, prober, group);
  prober.measure();

  SystemSpec system;
  system.name = fmt::format("{}-r{}", world.host, ranks);
  system.device = backend.device_name();
  system.calibrated = true;
  system.sms = backend.threads();
  const double bytes_per_s = 1e6 / read.us, flops_per_s = 1e6 / multiply.us;
  system.dram = {.datasheet_bytes_per_s = bytes_per_s,
                 .achieved_bytes_per_s = bytes_per_s,
                 .capacity_bytes = static_cast<double>(world.memory_bytes) / world.memory_fraction,
                 .spread = read.spread};
  system.peak_flops = {.bf16 = flops_per_s,
                       .fp8 = flops_per_s,  // widened, or terms that add up to as much
                       .fp4 = flops_per_s,
                       .core_clock_hz = cycle ? 1e6 / cycle->us : 0,
                       .spread = multiply.spread};
  for (const Pending<KernelRate>& rate : kernels) system.kernels.push_back(rate());
  system.collectives = collectives();
  // Ranks of a node exchange through its memory; what a message really takes stands in the collectives.
  system.link = {.bytes_per_s = system.dram.achieved_bytes_per_s,
                 .domain = static_cast<double>(ranks),
                 .beyond_bytes_per_s = system.dram.achieved_bytes_per_s,
                 .beyond_latency_us = 0};
  const std::string origin = fmt::format("measured on {} with {} ranks at once, {} threads each, kernels {}",
                                         world.host, ranks, backend.threads(), backend.kernel_path());
  for (const char* section : {"dram", "peak_flops", "link", "kernels", "collectives"})
    system.origin[section] = origin;
  if (const std::string noisy = noisy_figures(system); !noisy.empty()) system.origin["noisy"] = noisy;
  return system;
}

std::string noisy_figures(const SystemSpec& system) {
  std::string text;
  const auto note = [&](const std::string& figure, double spread) {
    if (is_noisy(spread))
      text += fmt::format("{}{} (spread {:.3g})", text.empty() ? "" : ", ", figure, spread);
  };
  note("dram", system.dram.spread);
  note("peak_flops", system.peak_flops.spread);
  for (const KernelRate& rate : system.kernels)
    note(fmt::format("{} {}", name(rate.family), name(rate.dtype)), rate.spread);
  for (const CollectiveRate& rate : system.collectives)
    note(fmt::format("{} of {}", name(rate.op), rate.group), rate.spread);
  return text;
}

}  // namespace helix
