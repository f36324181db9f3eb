// The shardings that a launch of tests can run.
#pragma once

#include <algorithm>
#include <vector>

#include "mpi/rank.hpp"

namespace helix {

inline constexpr Strategy every_strategy[] = {Strategy::helix, Strategy::tp, Strategy::tp_pp, Strategy::medha,
                                              Strategy::dp_ep};

/// Every grid of all ranks of the world that is legal under some strategy.
inline std::vector<Sharding> grids(const ModelSpec& model, const DecodeShape& shape) {
  const int n = world_size();
  std::vector<Sharding> legal;
  for (int pp = 1; pp <= n; ++pp) {
    for (int dp = 1; dp <= n; ++dp) {
      for (int kvp = 1; kvp <= n; ++kvp) {
        const int tpa = n / (pp * dp * kvp);
        if (tpa * pp * dp * kvp != n) continue;
        for (int ep = 1; ep <= n; ++ep) {
          for (int tpf = 1; tpf * ep <= n; ++tpf) {
            const Sharding s{.kvp = kvp, .tpa = tpa, .tpf = tpf, .ep = ep, .pp = pp, .dp = dp};
            const auto runs_as = [&](Strategy strategy) { return !why_illegal(model, strategy, s, shape); };
            if (std::ranges::any_of(every_strategy, runs_as)) legal.push_back(s);
          }
        }
      }
    }
  }
  return legal;
}

}  // namespace helix
