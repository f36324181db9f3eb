// Products of the fp64 reference with weights that come from elsewhere.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/weight_source.hpp"
#include "kernels/reference/math.hpp"

namespace helix::reference {

/// y = W x of the whole matrix as weights of this dtype hold it, at any power-of-two scale.
Vector multiply_stored(const WeightSource& source, const WeightSlice& whole, DType dtype,
                       std::span<const double> x);
/// Row `row` of the whole matrix, in bf16.
Vector stored_row(const WeightSource& source, const WeightSlice& whole, std::int64_t row);

}  // namespace helix::reference
