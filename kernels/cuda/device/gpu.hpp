// What the launchers must know of a GPU.
#pragma once

#include <algorithm>

namespace helix::cuda {

struct Gpu {
  int multiprocessors = 1;
  int shared_bytes_per_block = 48 * 1024;  // at most, by opt-in
  int shared_bytes_per_multiprocessor = 48 * 1024;
  /// Attention cuts a request for several blocks into parts of at least this many tokens.
  int split_tokens = 128;

  /// Multiprocessors that attention leaves to an exchange beside it (HOP-B), and the most blocks that the exchange has.
  /// Whole ones: a block of NCCL's send and receive has up to 640 threads of 96 registers (cuobjdump -res-usage of
  /// NCCL 2.28 for sm_80 to sm_120), 61440 of the 65536 that there are, so that no block of attention fits beside it.
  int left_to_exchange() const { return std::min(8, multiprocessors / 2); }
};

}  // namespace helix::cuda
