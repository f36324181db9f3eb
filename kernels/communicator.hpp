// The collectives of a decode step over one group of ranks. Device memory in and out; results are identical,
// bit for bit, on every rank of the group (expert routing depends on it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/bf16.hpp"

namespace helix {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Chunk p of `send` goes to rank p, whose chunk for this rank arrives as chunk p of `recv`.
  virtual void all_to_all(const std::byte* send, std::byte* recv, std::size_t bytes_per_peer) = 0;
  /// Every rank's `bytes` bytes, in rank order.
  virtual void all_gather(const std::byte* send, std::byte* recv, std::size_t bytes) = 0;
  /// data[i] = sum over ranks, added in fp32 in rank order and rounded to bf16 once, in place.
  virtual void all_reduce_sum(BF16* data, std::int64_t count) = 0;
};

/// The groups that one rank of a sharding belongs to.
struct Groups {
  std::unique_ptr<Communicator> instance;  // all ranks of the configuration (one pipeline stage)
  std::unique_ptr<Communicator> kvp;       // same dp and tpa index; ordered by kvp index
};

}  // namespace helix
