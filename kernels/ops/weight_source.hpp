// Where weights come from that are not synthetic.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops/ops.hpp"

namespace helix {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  /// Rows [first, first + rows) of the slice: out [rows, slice.cols]. From any thread.
  virtual void read(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float* out) const = 0;
  /// A tensor of one dimension.
  virtual std::vector<float> vector(const TensorId& id) const = 0;
};

}  // namespace helix
