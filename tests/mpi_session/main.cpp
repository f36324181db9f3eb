// Ends in the way that its argument says, for test_mpi_session.py: how a rank's error becomes that
// of the job.
#include <mpi.h>

#include <iostream>
#include <string>

#include "roofline/base/error.hpp"
#include "sweeps/launch/mpi_session.hpp"

namespace {

int rank() {
  int own = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &own);
  return own;
}

int end_as_told(const std::string& ending) {
  if (ending == "usage-everywhere") throw helix::UsageError("all ranks agree");
  if (ending == "usage-on-root") helix::on_root([] { throw helix::UsageError("only root knows"); });
  if (ending == "failure-on-root") helix::on_root([] { throw std::runtime_error("root broke"); });
  if (ending == "usage-on-one" && rank() == 1) throw helix::UsageError("rank 1 alone");
  if (ending == "throw-on-one" && rank() == 1) throw std::runtime_error("rank 1 broke");
  if (ending == "throw-nothing-known" && rank() == 1) throw 42;
  if (ending == "code-1") return 1;
  int ran_on_root = 0;
  helix::on_root([&] { ran_on_root = 1; });
  if (ran_on_root != (rank() == 0 ? 1 : 0)) throw std::logic_error("on_root ran on another rank");
  MPI_Barrier(MPI_COMM_WORLD);  // where ranks that do not know of another's error wait
  return 0;
}

}  // namespace

int main(int, char** argv) {
  const std::string ending = argv[1];
  if (ending == "usage-before-mpi") return helix::leave_with_usage_error("no MPI yet");
  return helix::run_with_mpi([&] { return end_as_told(ending); });
}
