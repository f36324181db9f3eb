// The collectives of a decode step over one group of ranks. Device memory in and out; results are identical,
// bit for bit, on every rank of the group (expert routing depends on it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/ops/bf16.hpp"

namespace helix {

/// Memory in which arrays lie that are exchanged.
struct ExchangedMemory {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  bool shareable = false;    // Buffer::shareable
  std::uint64_t layout = 0;  // the same on ranks whose arrays lie at the same offsets
};

/// Memory that a communicator knows to be exchanged.
class Exposure {
 public:
  virtual ~Exposure() = default;
};

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

  /// Begins an all_to_all that finish_all_to_all(slot) ends; both buffers belong to it until then. Slots
  /// count from 0 and may be in flight together; every rank starts and finishes them in the same order.
  virtual void start_all_to_all(int slot, const std::byte* send, std::byte* recv,
                                std::size_t bytes_per_peer) = 0;
  virtual void finish_all_to_all(int slot) = 0;

  /// `data` has `rows` rows, cut over the ranks by even_split: every rank gives its own part and gets the
  /// others', in place.
  virtual void all_gather_rows(std::byte* data, std::int64_t rows, std::size_t row_bytes) = 0;
  /// The same cut: a rank's own part becomes the sum over ranks, added as all_reduce_sum does. What the other
  /// parts hold afterwards is undefined.
  virtual void reduce_scatter_rows(BF16* data, std::int64_t rows, std::int64_t width) = 0;

  /// Sends to rank `to` and receives from rank `from` at the same time, so that a ring of ranks that do both
  /// cannot lock up. A side of 0 bytes is left out.
  virtual void exchange(const std::byte* send, std::size_t send_bytes, int to, std::byte* recv,
                        std::size_t recv_bytes, int from) = 0;

  /// Arrays given to the collectives will lie in this memory as long as the result lives, so that peers may
  /// be let at it; `in_flight`: to start_all_to_all, too. Null: there is nothing to prepare. Collective.
  virtual std::unique_ptr<Exposure> expose(const ExchangedMemory&, bool /*in_flight*/) { return nullptr; }
};

/// The groups that one rank of a sharding belongs to.
struct Groups {
  std::unique_ptr<Communicator> stage;     // all ranks of the rank's pipeline stage
  std::unique_ptr<Communicator> kvp;       // of them those with the same dp and tpa index, by kvp index
  std::unique_ptr<Communicator> pipeline;  // the ranks in the same place of every stage, by stage

  /// Among all ranks of the configuration.
  int rank() const { return stage->rank() + stage->size() * pipeline->rank(); }
};

}  // namespace helix
