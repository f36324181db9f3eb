#include "roofline/dtype.hpp"

#include <fmt/format.h>

#include "roofline/error.hpp"

namespace helix {

double bytes_per_value(DType dtype) {
  switch (dtype) {
    case DType::fp32:
      return 4.0;
    case DType::bf16:
      return 2.0;
    case DType::fp8:
      return 1.0;
    case DType::nvfp4:
      return 0.5 + 1.0 / 16.0;
    case DType::fp4:
      return 0.5;
  }
  return 0.0;
}

std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::fp32:
      return "fp32";
    case DType::bf16:
      return "bf16";
    case DType::fp8:
      return "fp8";
    case DType::nvfp4:
      return "nvfp4";
    case DType::fp4:
      return "fp4";
  }
  return "?";
}

DType parse_dtype(std::string_view text) {
  for (DType d : {DType::bf16, DType::fp8, DType::nvfp4, DType::fp4}) {
    if (text == name(d)) return d;
  }
  throw UsageError(fmt::format("unknown dtype '{}'; valid: bf16, fp8, nvfp4, fp4", text));
}

}  // namespace helix
