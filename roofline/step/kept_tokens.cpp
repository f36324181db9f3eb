#include "roofline/step/kept_tokens.hpp"

#include "roofline/base/arithmetic.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

Range KeptTokens::history_of(int kvp_index) const {
  const Range kept = history_tokens(history(), tokens_per_block, kvp, kvp_index);
  const std::int64_t dropped = context - history();
  return {dropped + kept.begin, dropped + kept.end};
}

std::int64_t KeptTokens::growth(std::int64_t steps) const {
  const std::int64_t block = tokens_per_block;
  return ceil_div(grown(steps), block * kvp) * block;
}

Append KeptTokens::append(std::int64_t step, std::int64_t first_turn, int kvp_index) const {
  const auto appended_here = [&](std::int64_t appended) {
    return append_owner(first_turn + appended, tokens_per_block, kvp) == kvp_index;
  };
  if (grown(step + 1) > step) return appended_here(step) ? Append::grows : Append::none;
  // The window is full, and each step replaces its oldest token: those of the history first, then what was appended.
  const std::int64_t oldest = (step - grown(step)) % window, of_history = history();
  const Range own = history_tokens(of_history, tokens_per_block, kvp, kvp_index);
  const bool here =
      oldest < of_history ? oldest >= own.begin && oldest < own.end : appended_here(oldest - of_history);
  return here ? Append::replaces : Append::none;
}

}  // namespace helix
