#include "roofline/base/dtype.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {
namespace {

struct Traits {
  DType dtype;
  std::string_view name;
  double bytes;
};

constexpr auto traits = std::to_array<Traits>({
    {DType::fp32, "fp32", 4.0},
    {DType::bf16, "bf16", 2.0},
    {DType::fp8, "fp8", 1.0},
    {DType::nvfp4, "nvfp4", 0.5 + 1.0 / 16.0},
    {DType::fp4, "fp4", 0.5},
    {DType::mxfp4, "mxfp4", 0.5 + 1.0 / 32.0},
    {DType::int8, "int8", 1.0},
    {DType::int4, "int4", 0.5},
});

constexpr auto kv_dtypes = std::to_array({DType::bf16, DType::fp8, DType::nvfp4, DType::fp4});
constexpr auto weight_dtypes = std::to_array(
    {DType::bf16, DType::fp8, DType::nvfp4, DType::fp4, DType::mxfp4, DType::int8, DType::int4});

const Traits& traits_of(DType dtype) {
  return *std::ranges::find(traits, dtype, &Traits::dtype);
}

DType parse(std::string_view text, std::span<const DType> valid) {
  std::vector<std::string_view> names;
  for (const DType dtype : valid) {
    if (text == name(dtype)) return dtype;
    names.push_back(name(dtype));
  }
  throw UsageError(fmt::format("unknown dtype '{}'; valid: {}", excerpt(text), fmt::join(names, ", ")));
}

}  // namespace

double bytes_per_value(DType dtype) {
  return traits_of(dtype).bytes;
}

std::string_view name(DType dtype) {
  return traits_of(dtype).name;
}

DType parse_dtype(std::string_view text) {
  return parse(text, weight_dtypes);
}

DType parse_kv_dtype(std::string_view text) {
  return parse(text, kv_dtypes);
}

}  // namespace helix
