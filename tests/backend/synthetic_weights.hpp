// Packed synthetic weights, and the values that they hold by the scalar definition.
#pragma once

#include <memory>
#include <vector>

#include "backend/device_under_test.hpp"
#include "kernels/synthetic.hpp"

namespace helix::testing {

/// The types of weights that the device has.
inline std::vector<DType> weight_types() {
  const std::span<const DType> types = device().weight_dtypes();
  return {types.begin(), types.end()};
}

/// The value at (row, col) of a slice as fill_weight defines it.
inline double slice_value(const WeightSlice& s, std::int64_t row, std::int64_t col, DType dtype) {
  const float v = s.scale * synthetic::unit_value(synthetic::row_key(s.key, s.row0 + row),
                                                  static_cast<std::uint32_t>(s.col0 + col));
  return static_cast<double>(dtype == DType::fp8 ? synthetic::stored_fp8(v) : synthetic::stored_bf16(v));
}

/// The values of slices that are stacked along their rows, [rows, cols].
inline std::vector<double> stacked_values(std::span<const WeightSlice> slices, DType dtype) {
  std::vector<double> values;
  for (const WeightSlice& s : slices)
    for (std::int64_t row = 0; row < s.rows; ++row)
      for (std::int64_t col = 0; col < s.cols; ++col) values.push_back(slice_value(s, row, col, dtype));
  return values;
}

/// `count` matrices [n, k] on the device, each of one slice with a key of its own.
class SyntheticWeights {
 public:
  SyntheticWeights(std::int64_t n, std::int64_t k, std::int64_t count, DType dtype, std::uint64_t key) {
    const std::size_t bytes = device().packed_bytes(n, k, dtype);
    memory_ = device().allocate(bytes * static_cast<std::size_t>(count));
    packed_ = {memory_->data(), n, k, count, bytes, dtype};
    for (std::int64_t i = 0; i < count; ++i) {
      slices_.push_back({key + static_cast<std::uint64_t>(i), 5, 7, n, k, synthetic::weight_scale(k)});
      device().fill_weight(packed_, i, {&slices_.back(), 1});
    }
  }

  const PackedWeight& packed() const { return packed_; }

  /// Matrix `index` as [n, k].
  std::vector<double> values(std::int64_t index) const {
    return stacked_values({&slices_[static_cast<std::size_t>(index)], 1}, packed_.dtype);
  }

  /// Overwrites matrix `index` with bytes that are NaN in bf16 and in fp8.
  void poison(std::int64_t index) const {
    device().set_bytes(packed_.data + static_cast<std::size_t>(index) * packed_.stride_bytes, 0xff,
                       packed_.stride_bytes);
  }

 private:
  std::unique_ptr<Buffer> memory_;
  PackedWeight packed_;
  std::vector<WeightSlice> slices_;
};

}  // namespace helix::testing
