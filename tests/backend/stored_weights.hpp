// What packed weights must hold of synthetic slices.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/nvfp4.hpp"
#include "kernels/ops.hpp"
#include "kernels/synthetic.hpp"

namespace helix::testing {

/// Row-major values of slices stacked along n, times `scale`.
inline std::vector<double> stored_weights(const std::vector<WeightSlice>& slices, DType dtype,
                                          float scale = 1.0f) {
  std::vector<double> all;
  for (const WeightSlice& s : slices) {
    for (std::int64_t r = 0; r < s.rows; ++r) {
      const std::uint32_t key = synthetic::row_key(s.key, s.row0 + r);
      std::vector<float> row;
      for (std::int64_t c = 0; c < s.cols; ++c)
        row.push_back(s.scale * synthetic::unit_value(key, static_cast<std::uint32_t>(s.col0 + c)));
      for (std::size_t i = 0; i < row.size(); ++i) {
        float held = to_float(to_bf16(row[i]));
        if (dtype == DType::fp8) held = to_float(to_fp8(row[i]));
        if (dtype == DType::nvfp4) {
          const std::size_t begin = i / 16 * 16, end = std::min(row.size(), begin + 16);
          float largest = 0.0f;
          for (std::size_t j = begin; j < end; ++j) largest = std::max(largest, std::fabs(row[j]));
          const FP8 block = nvfp4_scale(largest);
          held = e2m1_to_float(to_nvfp4(row[i], block)) * to_float(block);
        }
        all.push_back(static_cast<double>(held) * static_cast<double>(scale));
      }
    }
  }
  return all;
}

}  // namespace helix::testing
