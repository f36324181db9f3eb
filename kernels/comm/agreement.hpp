// Whether ranks have the same before them.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "kernels/comm/mpi_check.hpp"

namespace helix {

/// Do all ranks of `group` give the same numbers, as many on each? Collective.
inline bool alike(MPI_Comm group, std::vector<std::uint64_t> numbers) {
  const std::size_t count = numbers.size();
  for (std::size_t i = 0; i < count; ++i) numbers.push_back(~numbers[i]);
  std::vector<std::uint64_t> largest(numbers.size());
  HELIX_MPI(MPI_Allreduce(numbers.data(), largest.data(), static_cast<int>(numbers.size()), MPI_UINT64_T,
                          MPI_MAX, group));
  for (std::size_t i = 0; i < count; ++i)
    if (largest[i] != ~largest[count + i]) return false;  // the largest is not the smallest
  return true;
}

}  // namespace helix
