// How well a predicted time is known.
#pragma once

#include <algorithm>
#include <string>

namespace helix {

/// What lies outside of the measurements that a model's parameters were fitted on.
struct Extrapolated {
  bool system = false;   // another GPU than the one that was measured
  bool context = false;  // more cached tokens
  bool shape = false;    // a larger batch, wider heads; weights or a cache of a type that was not measured
  bool group = false;    // more ranks, or a network between them
  bool engine = false;   // another engine's or GPU's constants, or a layout of which no steps were measured
  bool any() const { return system || context || shape || group || engine; }
  void add(const Extrapolated& other) {
    system |= other.system;
    context |= other.context;
    shape |= other.shape;
    group |= other.group;
    engine |= other.engine;
  }
};
/// "context+group", or empty.
std::string to_string(const Extrapolated& extrapolated);
/// Throws UsageError for anything but what to_string gives.
Extrapolated parse_extrapolated(const std::string& text);

/// `error_percent`: nine of ten measured kernels of a family lie within it; of several families the worst. 0
/// where nothing was measured.
struct Trust {
  double error_percent = 0;
  Extrapolated extrapolated;
  void add(const Trust& other) {
    error_percent = std::max(error_percent, other.error_percent);
    extrapolated.add(other.extrapolated);
  }
};

}  // namespace helix
