#include "sweeps/prober.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/mpi_check.hpp"
#include "sweeps/statistics.hpp"

namespace helix {

using Clock = std::chrono::steady_clock;

TimedOps::TimedOps(Backend& backend, std::function<void()> ops)
    : backend_(backend), stopwatch_(backend.make_stopwatch()) {
  ops_ = [this, timed = std::move(ops)] {
    stopwatch_->mark(0);
    timed();
    stopwatch_->mark(1);
  };
  if (backend_.asynchronous()) recording_ = backend_.record(ops_);
}

double TimedOps::run_us() {
  if (recording_) {
    recording_->replay();
  } else {
    ops_();
  }
  backend_.synchronize();
  return stopwatch_->us_between(0, 1);
}

void Prober::rounds(const std::function<void()>& take_figures) {
  // All ranks have the same figures, and so come to the same end.
  constexpr double settled = 0.03;
  for (int round = 0; round < effort_.most_rounds; ++round) {
    if (round >= effort_.least_rounds && widest_spread_ <= settled) break;
    next_ = 0;
    spread_ = widest_spread_ = 0;
    take_figures();
  }
}

double Prober::us(const std::function<void(std::int64_t)>& call) {
  call(0);  // first touch of scratch memory
  backend_.synchronize();
  // A device starts and stops its clock in some microseconds: several calls share that.
  const std::int64_t calls_at_once = backend_.asynchronous() ? 16 : 1;
  TimedOps timed(backend_, [&, next = std::int64_t{1}]() mutable {
    for (std::int64_t i = 0; i < calls_at_once; ++i) call(next++);
  });
  HELIX_MPI(MPI_Barrier(group_));
  std::vector<double> samples;
  const Clock::time_point begin = Clock::now();
  do {
    samples.push_back(timed.run_us() / static_cast<double>(calls_at_once));
  } while (samples.size() < 5 ||
           std::chrono::duration<double>(Clock::now() - begin).count() < effort_.seconds);
  return us(median(samples));
}

double Prober::slowest(double us) const {
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &us, 1, MPI_DOUBLE, MPI_MAX, group_));
  return us;
}

double Prober::figure(double of_this_rank, double fraction) {
  const double us = slowest(of_this_rank);
  if (next_ == figures_.size()) figures_.emplace_back();
  std::vector<double>& rounds = figures_[next_++];
  rounds.push_back(us);
  const auto of = [&](std::span<const double> values) { return quantile(sorted(values), fraction); };
  const std::span<const double> all(rounds);
  if (const std::size_t half = all.size() / 2; half > 0) {
    spread_ = std::max(spread_, std::abs(of(all.last(half)) - of(all.first(half))) / of(all));
    widest_spread_ = std::max(widest_spread_, spread_);
  }
  return of(all);
}

double Prober::take_spread() {
  return std::exchange(spread_, 0.0);
}

KernelRate fit(KernelFamily family, DType dtype, double fixed_us, const std::vector<Probe>& probes,
               double spread) {
  KernelRate best{.family = family, .dtype = dtype, .fixed_us = fixed_us, .spread = spread};
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

ColdMemory::ColdMemory(Backend& backend, std::span<std::byte> memory, DType dtype) : memory_(memory) {
  if (dtype == DType::bf16) {
    constexpr std::int64_t cols = 4096;
    backend.fill_matrix(
        reinterpret_cast<BF16*>(data()),
        {.key = 7, .rows = static_cast<std::int64_t>(bytes() / sizeof(BF16)) / cols, .cols = cols});
    return;
  }
  // A history of one request; caches of any other shape find values of the same kind in it.
  const KvShape kv{.kind = AttentionKind::gqa, .kv_heads = 8, .head_dim = 128, .v_dim = 128, .dtype = dtype};
  const std::size_t page = backend.kv_page_bytes(kv);
  std::vector<std::int32_t> table(bytes() / page);
  std::iota(table.begin(), table.end(), 0);
  auto page_table = backend.allocate(table.size() * sizeof(std::int32_t));
  backend.copy_to_device(page_table->data(), table.data(), table.size() * sizeof(std::int32_t));
  const auto pages = static_cast<std::int64_t>(table.size());
  backend.kv_fill_history({.shape = kv,
                           .pages = data(),
                           .page_bytes = page,
                           .page_table = reinterpret_cast<const std::int32_t*>(page_table->data()),
                           .max_pages = pages,
                           .lengths = nullptr},
                          {.requests = 1, .tokens = pages * kv.tokens_per_page});
}

PackedWeight ColdMemory::matrices(const Backend& backend, std::int64_t n, std::int64_t k) const {
  PackedWeight w{.data = data(), .n = n, .k = k};
  w.stride_bytes = backend.packed_bytes(n, k, w.dtype);
  w.count = std::max<std::int64_t>(1, static_cast<std::int64_t>(bytes() / w.stride_bytes));
  return w;
}

}  // namespace helix
