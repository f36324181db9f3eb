#include "sweeps/machine/prober.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/ops/work_counter.hpp"

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

const Figure& Prober::time(std::function<void(std::int64_t)> call) {
  call(0);
  backend_.synchronize();
  note_work();
  auto next = std::make_shared<std::int64_t>(1);
  const auto calls = [next, call = std::move(call)](int n) {
    return [=] {
      for (int i = 0; i < n; ++i) call((*next)++);
    };
  };
  TimedOps one(backend_, calls(1));
  double us = one.run_us();
  for (int again = 0; again < 2; ++again) us = std::min(us, one.run_us());
  // As many calls and samples on every rank: collectives among them would deadlock otherwise. A sample is
  // long beside the clock's resolution, and short beside a time slice of another program.
  constexpr double sample_us = 200, most_calls = 1000;
  us = std::max(slowest(us), sample_us / most_calls);
  const auto calls_of_sample = static_cast<int>(std::max(1.0, sample_us / us));
  const auto timed = std::make_shared<TimedOps>(backend_, calls(calls_of_sample));
  series_.push_back({.sample_us = [=] { return timed->run_us() / calls_of_sample; },
                     .samples = samples_of_round(calls_of_sample * us),
                     .quantile = effort_.quantile,
                     .rounds = {},
                     .figure = {}});
  return series_.back().figure;
}

const Figure& Prober::ceiling(std::function<double()> rate_per_s) {
  const Clock::time_point begin = Clock::now();
  rate_per_s();
  const double us = slowest(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  series_.push_back({.sample_us = [rate = std::move(rate_per_s)] { return 1e6 / rate(); },
                     .samples = samples_of_round(us),
                     .quantile = 0.1,
                     .rounds = {},
                     .figure = {}});
  return series_.back().figure;
}

void Prober::measure() {
  std::vector<Series*> all;
  for (Series& s : series_) all.push_back(&s);
  measure(all);
  constexpr int most_retries = 2;
  for (int retry = 0; retry < most_retries; ++retry) {
    std::vector<Series*> noisy;
    for (Series& s : series_) {
      if (s.figure.noisy()) noisy.push_back(&s);
    }
    if (noisy.empty()) return;
    std::vector<Figure> before;
    for (Series* s : noisy) {
      before.push_back(s->figure);
      s->rounds.clear();
    }
    measure(noisy);
    for (std::size_t i = 0; i < noisy.size(); ++i) {
      if (before[i].spread < noisy[i]->figure.spread) noisy[i]->figure = before[i];
    }
  }
}

void Prober::measure(const std::vector<Series*>& series) {
  constexpr double settled = 0.015;
  for (int round = 1; round <= effort_.most_rounds; ++round) {
    for (Series* s : series) {
      HELIX_MPI(MPI_Barrier(group_));
      std::vector<double>& samples = s->rounds.emplace_back();
      for (int i = 0; i < s->samples; ++i) samples.push_back(s->sample_us());
      note_work();
    }
    if (round < std::min(effort_.least_rounds, effort_.most_rounds)) continue;
    agree_on_figures(series);
    const auto known = [](const Series* s) { return s->figure.rel_stderr <= settled; };
    if (std::ranges::all_of(series, known)) break;
  }
}

void Prober::agree_on_figures(const std::vector<Series*>& series) {
  std::vector<Figure> figures;
  for (const Series* s : series) figures.push_back(figure_of(s->rounds, s->quantile));
  static_assert(sizeof(Figure) == 3 * sizeof(double));
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, figures.data(), static_cast<int>(3 * figures.size()), MPI_DOUBLE,
                          MPI_MAX, group_));
  for (std::size_t i = 0; i < figures.size(); ++i) series[i]->figure = figures[i];
}

int Prober::samples_of_round(double sample_us) const {
  constexpr double clock_us = 0.1;  // what reading it takes
  return 1 + static_cast<int>(effort_.figure_us / std::max(sample_us, clock_us));
}

double Prober::slowest(double us) const {
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &us, 1, MPI_DOUBLE, MPI_MAX, group_));
  return us;
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

PackedWeight ColdMemory::matrices(const Backend& backend, std::int64_t n, std::int64_t k, DType dtype) const {
  PackedWeight w{.data = data(), .n = n, .k = k, .dtype = dtype};
  w.stride_bytes = backend.packed_bytes(n, k, w.dtype);
  w.count = std::max<std::int64_t>(1, static_cast<std::int64_t>(bytes() / w.stride_bytes));
  return w;
}

}  // namespace helix
