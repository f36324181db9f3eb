#include "roofline/model/precision.hpp"

#include <bit>

namespace helix {

std::string_view name(WeightPart part) {
  switch (part) {
    case WeightPart::attention:
      return "attention";
    case WeightPart::output_projection:
      return "o_proj";
    case WeightPart::dense_ffn:
      return "ffn";
    case WeightPart::routed_experts:
      return "experts";
    case WeightPart::shared_experts:
      return "shared";
    case WeightPart::router:
      return "router";
    case WeightPart::embedding:
      return "embedding";
    case WeightPart::lm_head:
      return "head";
  }
  return "?";
}

WeightFormat common_format(DType dtype) {
  const bool integer = dtype == DType::int8 || dtype == DType::int4;
  return {dtype, bytes_per_value(dtype) + (integer ? bf16_bytes / 128 : 0)};
}

WeightPrecision WeightPrecision::uniform(DType dtype) {
  WeightPrecision precision;
  for (WeightFormat& format : precision.formats_) format = common_format(dtype);
  precision[WeightPart::router] = precision[WeightPart::embedding] = common_format(DType::bf16);
  return precision;
}

std::uint64_t WeightPrecision::key() const {
  std::uint64_t key = 0;
  for (const WeightFormat& format : formats_) {
    key = (key ^ std::bit_cast<std::uint64_t>(format.bytes)) * 0x9e3779b97f4a7c15ull;
    key = (key ^ static_cast<std::uint64_t>(format.dtype)) * 0x9e3779b97f4a7c15ull;
    key ^= key >> 29;
  }
  return key;
}

}  // namespace helix
