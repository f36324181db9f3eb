#include "sweeps/launch/mpi_session.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "roofline/base/error.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/launch/watchdog.hpp"

namespace helix {
namespace {

using namespace std::chrono_literals;

/// Whatever a message quotes: both of its ends are telling.
std::string shortened(const std::string& message) {
  constexpr std::size_t longest = 1000, end = 300;
  if (message.size() <= longest) return message;
  return message.substr(0, longest - end) + " ... " + message.substr(message.size() - end);
}

void print_error(const std::string& message) {
  std::fputs(fmt::format("helix-bench: {}\n", shortened(message)).c_str(), stderr);
  std::fflush(stderr);
}

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

std::string host() {
  char name[MPI_MAX_PROCESSOR_NAME] = {};
  int length = 0;
  MPI_Get_processor_name(name, &length);
  return {name, static_cast<std::size_t>(length)};
}

/// True once all ranks are here, false if some are not after a while.
bool all_ranks_arrive() {
  MPI_Request arrival{};
  MPI_Ibarrier(MPI_COMM_WORLD, &arrival);
  const auto deadline = std::chrono::steady_clock::now() + 5s;
  for (int done = 0; std::chrono::steady_clock::now() < deadline; std::this_thread::sleep_for(1ms)) {
    MPI_Test(&arrival, &done, MPI_STATUS_IGNORE);
    if (done != 0) return true;
  }
  return false;
}

int leave_together(const std::string& message, int code) {
  if (world_rank() == 0) print_error(message);
  if (!all_ranks_arrive()) {
    if (world_rank() != 0) print_error(fmt::format("{} rank {}: {}", host(), world_rank(), message));
    MPI_Abort(MPI_COMM_WORLD, code);
  }
  MPI_Finalize();
  return code;
}

/// Says that this process is alone in an MPI world of its own though the launcher started several; empty if
/// all is well.
std::string stranger_launch(const LaunchedRanks& launched, int world_size) {
  if (world_size > 1 || launched.ranks <= 1) return {};
  char library[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(library, &length);
  const std::string name = std::string(library).substr(0, std::string(library).find(','));
  return fmt::format(
      "the launcher says {}, that is {} ranks or more, and MPI says 1: it is not the launcher of the MPI "
      "library "
      "that this program was built with ({}); valid: that library's mpirun, or srun --mpi=pmix; for one rank "
      "on "
      "purpose mpirun -n 1 or srun -n 1",
      launched.variable, launched.ranks, name);
}

[[noreturn]] void take_job_down(const char* message) {
  print_error(fmt::format("{} rank {}: {}", host(), world_rank(), message));
  MPI_Abort(MPI_COMM_WORLD, 3);
  std::_Exit(3);
}

}  // namespace

int launched_rank() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(variable)) return std::atoi(rank);
  }
  return 0;
}

LaunchedRanks launched_ranks() {
  const auto number = [](const char* variable) {
    const char* text = std::getenv(variable);
    return text ? std::optional<int>(std::atoi(text)) : std::nullopt;
  };
  const auto named = [](const char* variable, int value) { return fmt::format("{}={}", variable, value); };
  // Our own mpirun: whatever else is set comes from around it.
  for (const char* size :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const auto ranks = number(size)) return {named(size, *ranks), *ranks};
  }
  for (const char* rank : {"PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const auto own = number(rank); own && *own > 0) return {named(rank, *own), *own + 1};
  }
  for (const char* size : {"SLURM_NTASKS", "SLURM_NPROCS"}) {
    if (const auto ranks = number(size)) return {named(size, *ranks), *ranks};
  }
  return {};
}

int leave_with_usage_error(const std::string& message) {
  if (launched_rank() == 0) {
    print_error(message);
  } else {
    std::this_thread::sleep_for(700ms);
  }
  return 2;
}

int run_with_mpi(const std::function<int()>& body, double stall_timeout_s) {
  const LaunchedRanks launched = launched_ranks();  // MPI_Init sets some of the variables itself
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  std::signal(SIGXFSZ, SIG_IGN);
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (const std::string why = stranger_launch(launched, size); !why.empty()) {
    MPI_Finalize();
    // Each process is rank 0 of its own world: the launch's first one speaks first, and the launcher ends the
    // others with it.
    if (launched_rank() != 0) std::this_thread::sleep_for(700ms);
    print_error(why);
    return 2;
  }
  std::optional<Watchdog> watchdog;
  // Given back where memory lacks: ending the job takes some, and Open MPI crashes without. Never touched.
  constexpr std::size_t spare_bytes = std::size_t{16} << 20;
  std::unique_ptr<std::byte[]> spare;
  try {
    spare.reset(new std::byte[spare_bytes]);
    watchdog.emplace(MPI_COMM_WORLD, stall_timeout_s);
    const int code = body();
    MPI_Finalize();
    return code;
  } catch (const UsageError& error) {
    return leave_together(error.what(), 2);
  } catch (const BrokenOff& error) {
    return leave_together(error.what(), 3);
  } catch (const std::exception& error) {
    spare.reset();
    take_job_down(message_of(error).c_str());
  } catch (...) {
    take_job_down("unknown error");
  }
}

void on_root(const std::function<void()>& action) {
  enum Outcome : int { done, usage_error, failure };
  int outcome = done;
  std::string message;
  if (world_rank() == 0) {
    try {
      action();
    } catch (const UsageError& error) {
      outcome = usage_error;
      message = error.what();
    } catch (const std::exception& error) {
      outcome = failure;
      message = message_of(error);
    }
  }
  MPI_Bcast(&outcome, 1, MPI_INT, 0, MPI_COMM_WORLD);
  if (outcome == done) return;
  message = broadcast_text(message, 0, MPI_COMM_WORLD);
  if (outcome == usage_error) throw UsageError(message);
  throw BrokenOff(message);
}

}  // namespace helix
