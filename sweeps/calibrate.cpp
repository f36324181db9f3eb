#include "sweeps/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "kernels/memory.hpp"
#include "kernels/mpi_check.hpp"
#include "kernels/mpi_communicator.hpp"
#include "kernels/shard_plan.hpp"
#include "sweeps/statistics.hpp"

namespace helix {
namespace {

using Clock = std::chrono::steady_clock;

/// One timed call: what it moves and computes, and how long it took.
struct Probe {
  double bytes = 0, flops = 0, us = 0;
};

class Prober {
 public:
  Prober(Backend& backend, MPI_Comm group, double seconds)
      : backend_(backend), group_(group), seconds_(seconds) {}

  /// Median microseconds of a call, all ranks calling at once, on the slowest rank. `call(i)` gets the number
  /// of the call, to turn to other data each time.
  double median_us(const std::function<void(std::int64_t)>& call) const {
    call(0);  // first touch of scratch memory
    HELIX_MPI(MPI_Barrier(group_));
    std::vector<double> samples;
    const Clock::time_point begin = Clock::now();
    Clock::time_point last = begin;
    do {
      call(static_cast<std::int64_t>(samples.size()) + 1);
      backend_.synchronize();
      const Clock::time_point now = Clock::now();
      samples.push_back(std::chrono::duration<double, std::micro>(now - last).count());
      last = now;
    } while (samples.size() < 5 || std::chrono::duration<double>(last - begin).count() < seconds_);
    return slowest(median(samples));
  }

  double slowest(double us) const {
    HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &us, 1, MPI_DOUBLE, MPI_MAX, group_));
    return us;
  }
  double least(double rate) const { return -slowest(-rate); }
  double seconds() const { return seconds_; }

 private:
  Backend& backend_;
  MPI_Comm group_;
  double seconds_;
};

/// The rate whose curve t = fixed + ((bytes / bw)^p + (flops / peak)^p)^(1/p) comes closest to the probes in
/// the worst case. bw and peak are what the best probe reached of each; the norm says how well the two
/// overlap.
KernelRate fit(KernelFamily family, DType dtype, double fixed_us, const std::vector<Probe>& probes) {
  KernelRate best{.family = family, .dtype = dtype, .fixed_us = fixed_us};
  for (const Probe& p : probes) {
    const double us = std::max(p.us - fixed_us, 0.1 * p.us);
    best.bytes_per_s = std::max(best.bytes_per_s, p.bytes / us * 1e6);
    best.flops_per_s = std::max(best.flops_per_s, p.flops / us * 1e6);
  }
  const auto worst = [&](double norm) {
    double error = 0;
    for (const Probe& p : probes) {
      const double t = fixed_us + 1e6 * std::pow(std::pow(p.bytes / best.bytes_per_s, norm) +
                                                     std::pow(p.flops / best.flops_per_s, norm),
                                                 1 / norm);
      error = std::max(error, std::fabs(std::log(t / p.us)));
    }
    return error;
  };
  for (double norm = 1; norm <= 16; norm *= std::sqrt(2.0)) {
    if (norm == 1 || worst(norm) < worst(best.norm)) best.norm = norm;
  }
  return best;
}

/// Device memory that every probe walks through, so that what it reads is cold: several times the last-level
/// cache, filled with small finite bf16 values.
class ColdMemory {
 public:
  ColdMemory(Backend& backend, std::size_t bytes, std::unique_ptr<Buffer>& memory) : bytes_(bytes) {
    data_ = ensure(backend, memory, bytes);
    constexpr std::int64_t cols = 4096;
    backend.fill_matrix(
        reinterpret_cast<BF16*>(data_),
        {.key = 7, .rows = static_cast<std::int64_t>(bytes / sizeof(BF16)) / cols, .cols = cols});
  }
  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  /// As many matrices [n, k] as fit.
  PackedWeight matrices(const Backend& backend, std::int64_t n, std::int64_t k) const {
    PackedWeight w{.data = data_, .n = n, .k = k};
    w.stride_bytes = backend.packed_bytes(n, k, w.dtype);
    w.count = std::max<std::int64_t>(1, static_cast<std::int64_t>(bytes_ / w.stride_bytes));
    return w;
  }

 private:
  std::byte* data_;
  std::size_t bytes_;
};

PackedWeight one(const PackedWeight& many, std::int64_t i) {
  PackedWeight w = many;
  w.data += static_cast<std::size_t>(i % many.count) * many.stride_bytes;
  w.count = 1;
  return w;
}

KernelRate probe_gemm(Backend& backend, const Prober& prober, const ColdMemory& cold) {
  constexpr std::int64_t n = 4096, k = 2048, widest = 64;
  const PackedWeight weights = cold.matrices(backend, n, k);
  auto x = backend.allocate(static_cast<std::size_t>(widest * k) * sizeof(BF16));
  auto y = backend.allocate(static_cast<std::size_t>(widest * n) * sizeof(BF16));
  auto* in = reinterpret_cast<BF16*>(x->data());
  auto* out = reinterpret_cast<BF16*>(y->data());
  backend.fill_matrix(in, {.key = 8, .rows = widest, .cols = k});

  const PackedWeight tiny{
      .data = cold.data(), .n = 16, .k = 32, .stride_bytes = backend.packed_bytes(16, 32, DType::bf16)};
  const double fixed = prober.median_us([&](std::int64_t) { backend.linear(1, in, 32, tiny, out, 16); });
  std::vector<Probe> probes;
  for (std::int64_t m : {1, 8, 16, 64}) {
    const double us =
        prober.median_us([&](std::int64_t i) { backend.linear(m, in, k, one(weights, i), out, n); });
    probes.push_back({.bytes = 2.0 * n * k, .flops = 2.0 * static_cast<double>(m * n * k), .us = us});
  }
  return fit(KernelFamily::gemm, DType::bf16, fixed, probes);
}

/// Experts [2 ffn, hidden] and [hidden, ffn]: six that one token chose, and six that eight tokens chose
/// alike.
KernelRate probe_moe(Backend& backend, const Prober& prober, const ColdMemory& cold, std::int64_t hidden,
                     std::int64_t ffn) {
  constexpr std::int64_t top_k = 6, widest = 8;
  // Very wide experts are cut to what fits.
  const auto values_each = static_cast<std::int64_t>(cold.bytes() / sizeof(BF16)) / top_k;
  ffn = std::min(ffn, std::max<std::int64_t>(64, values_each / (2 * hidden) / 64 * 64));
  PackedWeight gate_up = cold.matrices(backend, 2 * ffn, hidden);
  PackedWeight down = cold.matrices(backend, hidden, ffn);
  const std::int64_t experts = std::min(gate_up.count, down.count);
  gate_up.count = down.count = experts;

  auto x = backend.allocate(static_cast<std::size_t>(widest * hidden) * sizeof(BF16));
  auto y = backend.allocate(static_cast<std::size_t>(widest * hidden) * sizeof(BF16));
  auto ids = backend.allocate(static_cast<std::size_t>(widest * top_k) * sizeof(std::int32_t));
  auto weights = backend.allocate(static_cast<std::size_t>(widest * top_k) * sizeof(float));
  auto scratch = backend.allocate(backend.moe_scratch_bytes(widest, top_k, hidden, ffn, experts));
  auto* in = reinterpret_cast<BF16*>(x->data());
  backend.fill_matrix(in, {.key = 8, .rows = widest, .cols = hidden});
  std::vector<std::int32_t> chosen(static_cast<std::size_t>(widest * top_k));
  const std::vector<float> equal(chosen.size(), 1.0f / top_k);
  backend.copy_to_device(weights->data(), equal.data(), equal.size() * sizeof(float));

  const auto time = [&](std::int64_t batch, std::int64_t first_expert) {
    return prober.median_us([&](std::int64_t call) {
      // Consecutive calls walk through the experts; those before first_expert are not local and cost nothing.
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        chosen[i] =
            static_cast<std::int32_t>((call * top_k + static_cast<std::int64_t>(i) % top_k) % experts);
      }
      backend.copy_to_device(ids->data(), chosen.data(), chosen.size() * sizeof(std::int32_t));
      backend.moe_experts(batch, top_k, in, reinterpret_cast<const std::int32_t*>(ids->data()),
                          reinterpret_cast<const float*>(weights->data()), first_expert, gate_up, down,
                          nullptr, reinterpret_cast<BF16*>(y->data()), scratch->data());
    });
  };
  const double fixed = time(1, experts);
  std::vector<Probe> probes;
  for (std::int64_t batch : {std::int64_t{1}, widest}) {
    const double values = 3.0 * static_cast<double>(top_k * hidden * ffn);
    probes.push_back(
        {.bytes = 2 * values, .flops = 2 * values * static_cast<double>(batch), .us = time(batch, 0)});
  }
  return fit(KernelFamily::moe, DType::bf16, fixed, probes);
}

/// What attention kernels are asked to do in the models of a run.
struct HeadShape {
  AttentionKind kind;
  std::int64_t q_heads, kv_heads, head_dim, v_dim;
};

KernelRate probe_attention(Backend& backend, const Prober& prober, const ColdMemory& cold, DType dtype,
                           const std::vector<HeadShape>& shapes) {
  constexpr std::int64_t most_tokens = 4096;
  std::vector<Probe> probes;
  double fixed = 0;
  for (const HeadShape& h : shapes) {
    const KvShape kv{
        .kind = h.kind, .kv_heads = h.kv_heads, .head_dim = h.head_dim, .v_dim = h.v_dim, .dtype = dtype};
    const std::size_t page = backend.kv_page_bytes(kv);
    const auto cold_pages = static_cast<std::int64_t>(cold.bytes() / page);
    const std::int64_t pages = std::min(most_tokens / kv.tokens_per_page, cold_pages);
    const std::int64_t tokens_per_call = pages * kv.tokens_per_page;
    const std::int64_t windows = cold_pages / pages;
    std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
    auto page_table = backend.allocate(table.size() * sizeof(std::int32_t));
    backend.copy_to_device(page_table->data(), table.data(), table.size() * sizeof(std::int32_t));
    auto length = backend.allocate(sizeof(std::int64_t));

    const auto q_values = static_cast<std::size_t>(h.q_heads * h.head_dim);
    auto q = backend.allocate(q_values * sizeof(BF16));
    auto o = backend.allocate(static_cast<std::size_t>(h.q_heads * h.v_dim) * sizeof(BF16));
    auto lse = backend.allocate(static_cast<std::size_t>(h.q_heads) * sizeof(float));
    auto scratch =
        backend.allocate(std::max<std::size_t>(64, backend.attention_scratch_bytes(kv, 1, h.q_heads)));
    backend.fill_matrix(reinterpret_cast<BF16*>(q->data()),
                        {.key = 9, .rows = 1, .cols = static_cast<std::int64_t>(q_values)});

    KvView view{.shape = kv,
                .pages = cold.data(),
                .page_bytes = page,
                .page_table = reinterpret_cast<const std::int32_t*>(page_table->data()),
                .max_pages = pages,
                .lengths = reinterpret_cast<const std::int64_t*>(length->data())};
    const auto time = [&](std::int64_t tokens) {
      backend.copy_to_device(length->data(), &tokens, sizeof(tokens));
      return prober.median_us([&](std::int64_t i) {
        view.pages = cold.data() + static_cast<std::size_t>((i % windows) * pages) * page;
        backend.attention(view, 1, h.q_heads, 0.1f, reinterpret_cast<const BF16*>(q->data()),
                          reinterpret_cast<BF16*>(o->data()), reinterpret_cast<float*>(lse->data()),
                          scratch->data());
      });
    };
    if (fixed == 0) fixed = time(1);
    const double row = static_cast<double>(h.kv_heads) *
                       static_cast<double>(h.kind == AttentionKind::mla ? h.head_dim : h.head_dim + h.v_dim);
    probes.push_back(
        {.bytes = static_cast<double>(tokens_per_call) * row * bytes_per_value(dtype),
         .flops = 2.0 * static_cast<double>(tokens_per_call * h.q_heads * (h.head_dim + h.v_dim)),
         .us = time(tokens_per_call)});
  }
  const bool mla = shapes.front().kind == AttentionKind::mla;
  return fit(mla ? KernelFamily::mla_attention : KernelFamily::gqa_attention, dtype, fixed, probes);
}

KernelRate probe_elementwise(Backend& backend, const Prober& prober) {
  constexpr std::int64_t cols = 4096, widest = 64;
  auto x = backend.allocate(widest * cols * sizeof(BF16));
  auto gain = backend.allocate(cols * sizeof(BF16));
  auto residual = backend.allocate(widest * cols * sizeof(float));
  auto out = backend.allocate(widest * cols * sizeof(BF16));
  auto* in = reinterpret_cast<BF16*>(x->data());
  backend.fill_matrix(in, {.key = 8, .rows = widest, .cols = cols});
  backend.fill_matrix(reinterpret_cast<BF16*>(gain->data()), {.key = 9, .rows = 1, .cols = cols});
  const auto time = [&](std::int64_t rows) {
    return prober.median_us([&](std::int64_t) {
      backend.add_rms_norm(rows, cols, in, true, reinterpret_cast<float*>(residual->data()),
                           reinterpret_cast<const BF16*>(gain->data()), 1e-5f,
                           reinterpret_cast<BF16*>(out->data()));
    });
  };
  const double few = time(1), many = time(widest);
  const double bytes = static_cast<double>(widest * cols) * (2 * sizeof(BF16) + sizeof(float));
  return {.family = KernelFamily::elementwise,
          .fixed_us = std::max(0.0, few - (many - few) / (widest - 1)),
          .bytes_per_s = bytes / std::max(many - few, 0.01 * many) * 1e6,
          .flops_per_s = 1e15,  // never what bounds them
          .norm = 1};
}

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

  system.kernels.push_back(probe_gemm(backend, prober, cold));
  const ModelSpec* moe = nullptr;
  for (const ModelSpec& model : request.models) {
    if (model.moe.experts > 0) moe = &model;
  }
  system.kernels.push_back(
      probe_moe(backend, prober, cold, moe ? moe->hidden : 2048, moe ? moe->moe.expert_ffn : 1408));
  for (AttentionKind kind : {AttentionKind::gqa, AttentionKind::mla}) {
    const std::vector<HeadShape> shapes = head_shapes(request, kind, ranks);
    if (shapes.empty()) continue;
    for (DType dtype : request.kv_dtypes) {
      system.kernels.push_back(probe_attention(backend, prober, cold, dtype, shapes));
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
