// Layers that keep a state of constant size per request in place of a cache.
#pragma once

#include <vector>

#include "roofline/step/decode_ops.hpp"

namespace helix {

/// What one of the ranks that share a state holds of it; the busiest.
struct StateShard {
  std::int64_t heads = 0, key_heads = 0;
  std::int64_t channels = 0;  // of the convolution
  std::int64_t inputs = 0;    // rows of the projections from the hidden state that are cut by heads
};
StateShard state_shard(const StateSpec& state, int ranks);

/// Bytes of one request in one layer on such a rank: the state itself, and the inputs that the convolution
/// still sees, in bf16.
double state_bytes(const StateSpec& state, int ranks);

std::vector<Op> state_ops(const DecodeStep& step);

}  // namespace helix
