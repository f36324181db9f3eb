#include "roofline/step/weight_request.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

/// The part that most weights belong to.
WeightPart bulk(const ModelSpec& model) {
  return model.moe.experts > 0 ? WeightPart::routed_experts : WeightPart::dense_ffn;
}

}  // namespace

void WeightRequest::apply(const ModelSpec& model, DecodeShape& shape) const {
  WeightPrecision weights = all_ ? WeightPrecision::uniform(*all_) : model.weights;
  for (const WeightPart part : weight_parts) {
    if (const auto& asked = parts_[static_cast<std::size_t>(part)]) weights[part] = common_format(*asked);
  }
  shape.weight_dtype = weights[bulk(model)].dtype;
  shape.weights = std::nullopt;
  const bool plain = std::ranges::all_of(weight_parts, [&](WeightPart part) {
    return !model.has_part(part) || weights[part] == weight_format(shape, part);
  });
  if (!plain) shape.weights = weights;
}

std::string_view WeightRequest::source() const {
  if (all_) return "flag";
  const auto given = [](const auto& part) { return part.has_value(); };
  return std::ranges::any_of(parts_, given) ? "file+flag" : "file";
}

WeightPart parse_weight_part(std::string_view text) {
  std::vector<std::string_view> names;
  for (const WeightPart part : weight_parts) {
    if (text == name(part)) return part;
    names.push_back(name(part));
  }
  throw UsageError(fmt::format("unknown part '{}' of the weights; valid: {}", text, fmt::join(names, ", ")));
}

std::string precision_of_parts(const ModelSpec& model, const DecodeShape& shape) {
  std::string text;
  for (const WeightPart part : weight_parts) {
    const DType attention = weight_format(shape, WeightPart::attention).dtype;
    const bool as_attention =
        part == WeightPart::output_projection && weight_format(shape, part).dtype == attention;
    if (!model.has_part(part) || as_attention) continue;
    text +=
        fmt::format("{}{}={}", text.empty() ? "" : " ", name(part), name(weight_format(shape, part).dtype));
  }
  return text;
}

}  // namespace helix
