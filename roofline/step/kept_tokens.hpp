// Which tokens the layers of one kind keep of a request, where they lie under KVP, and what a step's token does
// there: a layer that attends all appends it, one with a window replaces its oldest token once the window is full.
// The order in which a shard holds its tokens plays no part: they are rotated before they are cached, and the softmax
// sums over all of them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "roofline/step/range.hpp"

namespace helix {

/// What a step does to a rank's part of a cache.
enum class Append : std::uint8_t { none, grows, replaces };

struct KeptTokens {
  std::int64_t context = 0;  // tokens before decoding starts
  std::int64_t window = 0;   // tokens that are attended, the step's own among them; 0: all
  int tokens_per_block = 1, kvp = 1;

  /// Tokens of the context that are kept.
  std::int64_t history() const { return window > 0 ? std::min(context, window) : context; }
  /// How many more there are after so many steps.
  std::int64_t grown(std::int64_t steps) const {
    return window > 0 ? std::min(steps, window - history()) : steps;
  }
  /// Positions of the context that a KVP rank keeps.
  Range history_of(int kvp_index) const;
  /// Room for what a rank gains in so many steps, whatever rank has the first turn to append: whole rounds of the
  /// staggered append.
  std::int64_t growth(std::int64_t steps) const;
  /// What decode step `step` (0-based) does on a KVP rank, where the first step has the turn of step `first_turn`. A
  /// rank's tokens are replaced in the order of their slots, which is that of their positions.
  Append append(std::int64_t step, std::int64_t first_turn, int kvp_index) const;
};

}  // namespace helix
