#include "sweeps/launch/host_load.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "kernels/comm/mpi_check.hpp"
#include "sweeps/results/noise.hpp"

namespace helix {
namespace {

constexpr const char* load_mark = "busy machine";
constexpr const char* noise_mark = "noisy";

std::optional<double> machine_cpu_seconds_now() {
  std::ifstream file("/proc/stat");
  return machine_cpu_seconds((std::ostringstream() << file.rdbuf()).str());
}

double own_cpu_seconds(MPI_Comm ranks) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  double sum = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, ranks));
  return sum;
}

}  // namespace

std::optional<double> machine_cpu_seconds(const std::string& proc_stat) {
  std::istringstream line(proc_stat);
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  line >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
  if (!line || name != "cpu") return std::nullopt;
  return (user + nice + system + irq + softirq + steal) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

HostLoad::HostLoad(MPI_Comm ranks)
    : ranks_(ranks),
      begin_s_(MPI_Wtime()),
      ours_s_(own_cpu_seconds(ranks)),
      all_s_(machine_cpu_seconds_now()) {}

double HostLoad::others_cpus() const {
  const double ours = own_cpu_seconds(ranks_) - ours_s_, took = MPI_Wtime() - begin_s_;
  const std::optional<double> all = machine_cpu_seconds_now();
  double cpus = all && all_s_ && took > 0 ? std::max(0.0, (*all - *all_s_ - ours) / took) : 0.0;
  HELIX_MPI(MPI_Bcast(&cpus, 1, MPI_DOUBLE, 0, ranks_));
  return cpus;
}

int online_cpus() {
  return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

std::string load_caveat(double others_cpus, int cpus) {
  // A twentieth of the machine: what a system does by itself is less.
  if (others_cpus <= 0.05 * cpus) return {};
  return fmt::format("{}: others used {:.1f} of {} CPUs", load_mark, others_cpus, cpus);
}

std::string noise_caveat(const Measurement& measurement) {
  constexpr double most = 0.02;
  if (measurement.samples_us.empty()) return {};
  const double error = relative_error(measurement);
  if (error <= most) return {};
  return fmt::format("{}: the median of {} samples is known to {:.1f} % only", noise_mark,
                     measurement.samples, 100.0 * error);
}

bool trusted(const ResultRow& row) {
  const auto says = [&](const char* mark) { return row.reason.find(mark) != std::string::npos; };
  return is_timed(row.status) && !says(load_mark) && !says(noise_mark);
}

}  // namespace helix
