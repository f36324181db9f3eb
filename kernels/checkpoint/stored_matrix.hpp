// A weight matrix as a file has it: plain, or quantised with the scales that are tensors of their own beside it.
//   F32, F16, BF16
//   F8_E4M3 with NAME_scale_inv or NAME_scale: one number, one a row, or one a block (DeepSeek: 128 x 128)
//   U8, two e2m1 in each byte, the first in the low half, with the scales [rows, columns / 16] in F8_E4M3 and a number:
//   NVFP4 as TensorRT Model Optimizer writes it (NAME, NAME_scale, NAME_scale_2 to multiply by) and as compressed-tensors
//   does (NAME_packed, NAME_scale, NAME_global_scale to divide by)
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/checkpoint/tensor_files.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "roofline/step/range.hpp"

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

  /// Some columns of some rows: out [rows, columns].
  void read(Range rows, Range columns, float* out) const;
  /// The same times `factor`, rounded; from bf16 and fp8 into each other they are not widened to floats on the way.
  void read_rounded(Range rows, Range columns, float factor, BF16* out) const;
  void read_rounded(Range rows, Range columns, float factor, FP8* out) const;
  /// Where rows from `row` on lie one behind the other, if these are all columns, and in bf16; else null.
  const std::byte* rows_in_bf16(std::int64_t row, Range columns) const;
  /// The largest magnitude among them, or `known` if it is larger.
  float largest(Range rows, Range columns, float known) const;

 private:
  /// scales[row / block_rows * stride + column / block_columns], times `factor`.
  struct Scales {
    const MappedTensor* tensor = nullptr;
    std::int64_t block_rows = 1, block_columns = 1, stride = 0;
    float factor = 1.0f;
  };
  void find_scales(const TensorFiles& files, std::array<std::int64_t, 2> block);
  void find_nvfp4_scales(const TensorFiles& files);
  /// Rows from `row` on that have the scales of a row in common, up to `end`.
  std::int64_t end_of_block(std::int64_t row, std::int64_t end) const;
  /// Columns of a row that have a scale in common.
  struct Run {
    Range columns;
    float scale = 1.0f;
  };
  std::vector<Run> runs(std::int64_t row, Range columns) const;
  void widen(std::int64_t row, Range columns, float* out) const;
  template <class T>
  void read_through_floats(Range rows, Range columns, float factor, T* out) const;
  template <class T>
  void rescale(Range rows, Range columns, float factor, T* out) const;  // of fp8
  float largest_of_e4m3(Range rows, Range columns, float known) const;
  const std::byte* at(std::int64_t row, std::int64_t column, std::int64_t value_bytes) const {
    return values_->data + (row * cols_ + column) * value_bytes;
  }

  const MappedTensor* values_;
  std::int64_t rows_ = 0, cols_ = 0;
  Scales scales_;
  const MappedTensor* second_scale_ = nullptr;
};

/// Values [first, first + count) of a tensor of F32, F16, BF16 or F8_E4M3, without scales. Throws UsageError for others.
void read_values(const MappedTensor& tensor, std::int64_t first, std::int64_t count, float* out);

}  // namespace helix
