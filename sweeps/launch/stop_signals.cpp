#include "sweeps/launch/stop_signals.hpp"

#include <algorithm>
#include <utility>

#include "kernels/comm/mpi_check.hpp"

namespace helix {
namespace {

constexpr std::array signals{std::pair{SIGTERM, "SIGTERM"}, std::pair{SIGINT, "SIGINT"},
                             std::pair{SIGUSR1, "SIGUSR1"}};
volatile sig_atomic_t received = 0;

void note(int signal) {
  received = signal;
}

}  // namespace

StopSignals::StopSignals() {
  received = 0;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i].first, &action, &before_[i]);
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < signals.size(); ++i) sigaction(signals[i].first, &before_[i], nullptr);
}

bool stop_requested() {
  return received != 0;
}

std::string StopSignals::agreed(MPI_Comm comm) const {
  int signal = received;
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &signal, 1, MPI_INT, MPI_MAX, comm));
  const auto* known = std::ranges::find(signals, signal, [](const auto& entry) { return entry.first; });
  return known == signals.end() ? "" : known->second;
}

}  // namespace helix
