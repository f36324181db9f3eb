// bf16 values as fp8 without floats between: half the width, and each is read once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/fp8.hpp"

namespace helix {

/// Whether this CPU does it for the factor: a power of two, as scales of weights are.
bool narrows_bf16(float factor);
/// out[i] is the i-th value times the factor, as to_fp8 rounds it. Only where narrows_bf16(factor).
void narrow_bf16(const std::byte* values, std::int64_t count, float factor, FP8* out);

}  // namespace helix
