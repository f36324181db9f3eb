// Which cached tokens sparse attention attends, in fp64, and whether a choice made elsewhere can be the same up
// to rounding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/reference/math.hpp"

namespace helix::reference {

struct Selection {
  std::vector<bool> attended;  // of each token
  std::string problem;         // why `given` was not taken over
};

/// The `top_k` best scores, of equal ones the lower tokens. `given`: tokens chosen elsewhere, of as many as there
/// are scores, or empty. They are taken over if there are as many and none lies more than `tolerance` standard
/// deviations of the scores below one that they leave out; else the own choice is used and `problem` says what
/// is wrong.
Selection select_tokens(const Vector& scores, std::int64_t top_k, const std::vector<bool>& given,
                        double tolerance);

/// Why `given` is no choice by these scores where each may be off by half of `tolerance`, which is no multiple of their
/// deviation here; empty: it is one.
std::string selection_problem(const Vector& scores, std::int64_t top_k, const std::vector<bool>& given,
                              double tolerance);

}  // namespace helix::reference
