// How the weights of a model are stored, part by part.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "roofline/base/dtype.hpp"

namespace helix {

/// The parts of a model whose weights checkpoints store in types of their own. attention: the projections of
/// queries, keys and values, which KVP peers hold alike, while the output projection is split over all ranks;
/// dense_ffn: of models and layers without experts.
enum class WeightPart {
  attention,
  output_projection,
  dense_ffn,
  routed_experts,
  shared_experts,
  router,
  embedding,
  lm_head
};
inline constexpr std::array weight_parts = {WeightPart::attention,      WeightPart::output_projection,
                                            WeightPart::dense_ffn,      WeightPart::routed_experts,
                                            WeightPart::shared_experts, WeightPart::router,
                                            WeightPart::embedding,      WeightPart::lm_head};
/// "attention", "o_proj", "ffn", "experts", "shared", "router", "embedding", "head".
std::string_view name(WeightPart part);

/// A storage type and the bytes a value takes in it, its share of the scales included.
struct WeightFormat {
  DType dtype = DType::bf16;
  double bytes = bf16_bytes;
  bool operator==(const WeightFormat&) const = default;
};
/// fp8 whose scales are counted: those of blocks, not of tensors, rows or columns.
inline bool has_block_scales(const WeightFormat& format) {
  return format.dtype == DType::fp8 && format.bytes > bytes_per_value(DType::fp8);
}
/// The type in its common form: an int8 or int4 value has a bf16 scale per 128.
WeightFormat common_format(DType dtype);

/// The formats of all parts.
class WeightPrecision {
 public:
  /// bf16 throughout.
  WeightPrecision() = default;
  /// What `--weight-dtype T` means: T, with embedding and router in bf16.
  static WeightPrecision uniform(DType dtype);

  const WeightFormat& operator[](WeightPart part) const { return formats_[static_cast<std::size_t>(part)]; }
  WeightFormat& operator[](WeightPart part) { return formats_[static_cast<std::size_t>(part)]; }
  bool operator==(const WeightPrecision&) const = default;
  /// Different ones for formats that differ, for tables of prices.
  std::uint64_t key() const;

 private:
  std::array<WeightFormat, weight_parts.size()> formats_{};
};

}  // namespace helix
