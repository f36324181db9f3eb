// Weights of a WeightSource into device memory, piece by piece: a rank's parts and nothing else are read.
#pragma once

#include <vector>

#include "kernels/ops/backend.hpp"
#include "kernels/ops/weight_source.hpp"
#include "kernels/state/shard_plan.hpp"

namespace helix {

/// Fills all matrices of `weight` and sets its scale, a power of two for the largest value of them all.
void store_from(const WeightSource& source, const MatrixPlan& plan, PackedWeight& weight, Backend& backend);
/// Row-major bf16 [slice.rows, slice.cols], times `factor`.
void copy_from(const WeightSource& source, const WeightSlice& slice, float factor, BF16* out,
               Backend& backend);

std::vector<BF16> rounded_to_bf16(const std::vector<float>& values);
/// The gain of a norm, which some models store less 1.
std::vector<BF16> stored_gain(const WeightSource& source, const ModelSpec& model, const TensorId& id);

}  // namespace helix
