#include "sweeps/prober.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/memory.hpp"
#include "kernels/mpi_check.hpp"
#include "sweeps/statistics.hpp"

namespace helix {

using Clock = std::chrono::steady_clock;

double Prober::median_us(const std::function<void(std::int64_t)>& call) const {
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

double Prober::slowest(double us) const {
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &us, 1, MPI_DOUBLE, MPI_MAX, group_));
  return us;
}

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

ColdMemory::ColdMemory(Backend& backend, std::size_t bytes, std::unique_ptr<Buffer>& memory) : bytes_(bytes) {
  data_ = ensure(backend, memory, bytes);
  constexpr std::int64_t cols = 4096;
  backend.fill_matrix(
      reinterpret_cast<BF16*>(data_),
      {.key = 7, .rows = static_cast<std::int64_t>(bytes / sizeof(BF16)) / cols, .cols = cols});
}

PackedWeight ColdMemory::matrices(const Backend& backend, std::int64_t n, std::int64_t k, DType dtype) const {
  PackedWeight w{.data = data_, .n = n, .k = k, .dtype = dtype};
  w.stride_bytes = backend.packed_bytes(n, k, w.dtype);
  w.count = std::max<std::int64_t>(1, static_cast<std::int64_t>(bytes_ / w.stride_bytes));
  return w;
}

}  // namespace helix
