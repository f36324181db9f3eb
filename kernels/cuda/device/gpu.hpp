// What the launchers must know of a GPU.
#pragma once

namespace helix::cuda {

struct Gpu {
  int multiprocessors = 1;
  int shared_bytes_per_block = 48 * 1024;  // at most, by opt-in
  int shared_bytes_per_multiprocessor = 48 * 1024;
  /// Attention cuts a request for several blocks into parts of at least this many tokens.
  int split_tokens = 128;
};

}  // namespace helix::cuda
