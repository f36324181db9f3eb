// Packed synthetic weights, and the values that they hold by the scalar definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "backend/device_under_test.hpp"
#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"

namespace helix::testing {

/// The types of weights that the device has.
inline std::vector<DType> weight_types() {
  const std::span<const DType> types = device().weight_dtypes();
  return {types.begin(), types.end()};
}

/// The value at (row, col) of a slice as fill_weight defines it, but of NVFP4, which stores none alone.
inline double slice_value(const WeightSlice& s, std::int64_t row, std::int64_t col, DType dtype) {
  const float v = s.scale * synthetic::unit_value(synthetic::row_key(s.key, s.row0 + row),
                                                  static_cast<std::uint32_t>(s.col0 + col));
  if (dtype == DType::nvfp4) return static_cast<double>(v);
  return static_cast<double>(dtype == DType::fp8 ? synthetic::stored_fp8(v) : synthetic::stored_bf16(v));
}

/// What NVFP4 holds of a row, in blocks of 16.
inline void store_as_nvfp4(std::span<double> row) {
  for (std::size_t begin = 0; begin < row.size(); begin += kNvfp4Block) {
    const auto block = row.subspan(begin, std::min<std::size_t>(kNvfp4Block, row.size() - begin));
    float largest = 0.0f;
    for (const double v : block) largest = std::max(largest, std::fabs(static_cast<float>(v)));
    const FP8 scale = nvfp4_scale(largest);
    for (double& v : block)
      v = static_cast<double>(e2m1_to_float(to_nvfp4(static_cast<float>(v), scale)) * to_float(scale));
  }
}

/// The values of slices that are stacked along their rows, [rows, cols], as fill_weight defines them.
inline std::vector<double> stacked_values(std::span<const WeightSlice> slices, DType dtype) {
  std::vector<double> values;
  for (const WeightSlice& s : slices)
    for (std::int64_t row = 0; row < s.rows; ++row) {
      for (std::int64_t col = 0; col < s.cols; ++col) values.push_back(slice_value(s, row, col, dtype));
      if (dtype == DType::nvfp4) store_as_nvfp4(std::span(values).last(static_cast<std::size_t>(s.cols)));
    }
  return values;
}

/// `count` matrices [n, k] on the device, each of one slice with a key of its own.
class SyntheticWeights {
 public:
  SyntheticWeights(std::int64_t n, std::int64_t k, std::int64_t count, DType dtype, std::uint64_t key) {
    const std::size_t bytes = device().packed_bytes(n, k, dtype);
    memory_ = device().allocate(bytes * static_cast<std::size_t>(count));
    packed_ = {memory_->data(), n, k, count, bytes, dtype, dtype == DType::bf16 ? 1.0f : 0x1p-3f};
    for (std::int64_t i = 0; i < count; ++i) {
      const float scale = synthetic::weight_scale(k) / packed_.scale;
      slices_.push_back({key + static_cast<std::uint64_t>(i), 5, 48, n, k, scale});
      device().fill_weight(packed_, i, {&slices_.back(), 1});
    }
  }

  const PackedWeight& packed() const { return packed_; }

  /// Matrix `index` as [n, k].
  std::vector<double> values(std::int64_t index) const {
    auto values = stacked_values({&slices_[static_cast<std::size_t>(index)], 1}, packed_.dtype);
    for (double& v : values) v *= static_cast<double>(packed_.scale);
    return values;
  }

  /// Overwrites matrix `index` with bytes that are NaN in bf16 and in fp8, and far too large in NVFP4.
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
