// A weight matrix as a file has it: plain, or quantised with the scales that are tensors of their own beside it.
//   F32, F16, BF16
//   F8_E4M3 with NAME_scale_inv or NAME_scale: one number, one a row, or one a block (DeepSeek: 128 x 128)
//   U8, two e2m1 in each byte, the first in the low half, with NAME_scale [rows, columns / 16] in F8_E4M3 and the number
//   NAME_scale_2: NVFP4 as TensorRT Model Optimizer writes it
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/checkpoint/tensor_files.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

class StoredMatrix {
 public:
  /// `block`: rows and columns of a block of block-wise fp8. A tensor of three dimensions is read as a matrix with the
  /// first two put together. Throws UsageError in one line that names file and tensor: not one of the above.
  StoredMatrix(const TensorFiles& files, const MappedTensor& values, std::array<std::int64_t, 2> block);

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  const std::string& name() const { return values_->stored.name; }
  const std::string& file() const { return values_->file; }
  /// Names of the scales.
  std::vector<std::string> companions() const;

  /// Some columns of a row.
  void read(std::int64_t row, Range columns, float* out) const;

 private:
  /// scales[row / block_rows * stride + column / block_columns], times `factor`.
  struct Scales {
    const MappedTensor* tensor = nullptr;
    std::int64_t block_rows = 1, block_columns = 1, stride = 0;
    float factor = 1.0f;
  };
  void find_scales(const TensorFiles& files, std::array<std::int64_t, 2> block);
  void find_nvfp4_scales(const TensorFiles& files);

  const MappedTensor* values_;
  std::int64_t rows_ = 0, cols_ = 0;
  Scales scales_;
  const MappedTensor* second_scale_ = nullptr;
};

/// Values [first, first + count) of a tensor of F32, F16, BF16 or F8_E4M3, without scales. Throws UsageError for others.
void read_values(const MappedTensor& tensor, std::int64_t first, std::int64_t count, float* out);

}  // namespace helix
