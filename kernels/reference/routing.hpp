// Which experts a token goes to, in fp64, and whether a choice made elsewhere can be the same up to rounding.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/reference/math.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix::reference {

struct Routing {
  std::vector<std::int32_t> experts;
  Vector weights;       // of `experts`
  std::string problem;  // why `given` was not taken over
};

/// The router of kernels/cpu/small/router.cpp's formulas. `given`: experts chosen elsewhere, or empty. They are
/// taken over, with weights from these logits, if none lies more than `tolerance` (in logits) below one that
/// they leave out; else the own choice is used and `problem` says what is wrong. `bias`:
/// softmax_topk adds it to the logits, others for the choice; may be empty.
Routing route(const MoeSpec& moe, Vector logits, const std::vector<float>& bias,
              std::span<const std::int32_t> given, double tolerance);

/// Why `given` is no choice by these logits where each may be off by half of `tolerance`; empty: it is one.
std::string routing_problem(const MoeSpec& moe, Vector logits, const std::vector<float>& bias,
                            std::span<const std::int32_t> given, double tolerance);

}  // namespace helix::reference
