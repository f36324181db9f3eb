// Many floats at once into the types that weights are stored in.
#pragma once

#include <cstdint>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"

namespace helix {

/// out[i] is x[i] * factor as to_bf16 or to_fp8 rounds it.
void round_values(const float* x, std::int64_t count, float factor, BF16* out);
void round_values(const float* x, std::int64_t count, float factor, FP8* out);

/// The largest |x[i]|; what is not a number is none.
float largest_magnitude(const float* x, std::int64_t count);

}  // namespace helix
