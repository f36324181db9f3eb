// The command `calibrate`: measures this machine and writes a system file.
#pragma once

#include <filesystem>
#include <string>

#include "roofline/system/system_spec.hpp"

namespace helix {

struct CalibrateRequest {
  std::string backend = "auto";  // cpu, cuda, auto
  std::filesystem::path out;     // empty: standard output
  int rounds = 60;               // of measuring at most; 30 do if the figures are known by then
  double stall_timeout_s = 120;  // see run_with_mpi
  bool force = false;            // write noisy figures, too
  bool quiet = false;
};

/// Runs between MPI_Init and MPI_Finalize on every rank of the world (see run_with_mpi). Returns
/// the exit code.
int run_calibrate(const CalibrateRequest& request);

/// Writes the system file and says what it holds. Figures that stayed noisy are named; without `force` no file is written of
/// them, since predictions of months would rest on it: returns 1 then, else 0.
int write_calibration(const SystemSpec& system, int ranks, const CalibrateRequest& request);

}  // namespace helix
