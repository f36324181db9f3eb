// What a call takes on a machine that is never quite alone: one figure from times taken in rounds.
#pragma once

#include <span>
#include <vector>

namespace helix {

/// Stretches that differ by more than the figure itself: the machine was busy with something else.
inline bool is_noisy(double spread) {
  return spread > 1;
}

/// `spread`: how far the figures of up to eight consecutive stretches of the rounds lie apart, over the
/// figure; a machine that changes its speed for seconds shows here. `rel_stderr`: standard error of the
/// figure, over the figure, if the stretches were independent.
struct Figure {
  double us = 0, spread = 0, rel_stderr = 0;
  bool noisy() const { return is_noisy(spread); }
};

/// The quantile `fraction` of all times of all rounds. Others disturb a call in two ways. They take the CPU
/// for a time slice of milliseconds: most calls that are shorter are spared, and a low or middle quantile of
/// many passes over the rest. They take the memory for seconds: rounds far apart see both states in the
/// machine's own proportion. Minima would be extremes of luck, which no second measuring finds again.
Figure figure_of(std::span<const std::vector<double>> rounds, double fraction);

}  // namespace helix
