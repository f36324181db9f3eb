// Storage types of weights and KV cache, and what they cost in bytes.
#pragma once

#include <string_view>

namespace helix {

/// nvfp4: 4-bit values and one e4m3 scale per 16 (0.5625 B). fp4: 0.5 B flat, as papers count; `predict`
/// only. mxfp4: one e8m0 scale per 32 (0.53125 B). int8, int4: integers whose scales vary, see WeightFormat.
/// The last three are types of weights, and predicted only.
enum class DType { fp32, bf16, fp8, nvfp4, fp4, mxfp4, int8, int4 };

/// Of what is never quantised: activations, sums.
constexpr double bf16_bytes = 2, fp32_bytes = 4;

double bytes_per_value(DType dtype);
std::string_view name(DType dtype);

/// Accepts bf16, fp8, nvfp4, fp4, mxfp4, int8, int4; throws UsageError naming the valid ones otherwise.
DType parse_dtype(std::string_view text);
/// Of a KV cache: bf16, fp8, nvfp4, fp4.
DType parse_kv_dtype(std::string_view text);

}  // namespace helix
