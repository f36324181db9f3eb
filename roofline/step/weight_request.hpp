// What `--weight-dtype` asks for: the checkpoint's own formats, one type, or a type for some of the parts.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "roofline/model/model_spec.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

class WeightRequest {
 public:
  /// "auto": as the checkpoint stores them.
  WeightRequest() = default;
  /// This type for all parts but embedding and router.
  WeightRequest(DType dtype) : all_(dtype) {}

  /// Makes `part` this type, whatever the others are; attention includes its output projection.
  void set(WeightPart part, DType dtype) {
    parts_[static_cast<std::size_t>(part)] = dtype;
    if (part == WeightPart::attention) set(WeightPart::output_projection, dtype);
  }

  /// Of a model's weights: shape.weight_dtype and shape.weights.
  void apply(const ModelSpec& model, DecodeShape& shape) const;
  /// Where the types come from: "file" (the checkpoint), "flag", or "file+flag".
  std::string_view source() const;

  bool operator==(const WeightRequest&) const = default;

 private:
  std::optional<DType> all_;
  std::array<std::optional<DType>, weight_parts.size()> parts_{};
};

/// One of the parts' names; throws UsageError naming the valid ones.
WeightPart parse_weight_part(std::string_view text);

/// The types of the parts that the model has, e.g. "attention=bf16 experts=mxfp4 router=bf16 ..."; o_proj
/// only where it is not attention's.
std::string precision_of_parts(const ModelSpec& model, const DecodeShape& shape);

}  // namespace helix
