// Catch2 on every rank of an MPI launch. Rank 0 prints; a failure on any rank fails the launch. Tests
// use CHECK where ranks could disagree, since a rank that leaves a test early would leave the others
// in a collective.
#include <mpi.h>

#include <cstdio>

#include "tests/catch_runner.hpp"

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  // Quiet ranks keep their failures: Catch2 repeats them in the exit code, and rank 0 waits for all codes.
  if (rank != 0 && std::freopen("/dev/null", "w", stdout) == nullptr) MPI_Abort(MPI_COMM_WORLD, 1);
  int failed = run_tests(argc, argv);
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  if (rank == 0 && failed != 0) std::fprintf(stderr, "a rank failed\n");
  MPI_Finalize();
  return failed == 0 ? 0 : 1;
}
