// Storage types of weights and KV cache, and what they cost in bytes.
#pragma once

#include <string_view>

namespace helix {

/// nvfp4: 4-bit values and one e4m3 scale per 16 (0.5625 B). fp4: 0.5 B flat, as papers count; `predict`
/// only.
enum class DType { fp32, bf16, fp8, nvfp4, fp4 };

/// Of what is never quantised: activations, sums.
constexpr double bf16_bytes = 2, fp32_bytes = 4;

double bytes_per_value(DType dtype);
std::string_view name(DType dtype);

/// Accepts bf16, fp8, nvfp4, fp4; throws UsageError naming the valid ones otherwise.
DType parse_dtype(std::string_view text);

}  // namespace helix
