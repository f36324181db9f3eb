// Where weights come from that are not synthetic.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "kernels/ops/ops.hpp"

namespace helix {

class WeightSource {
 public:
  WeightSource() : id_(++last_id_) {}
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;
  virtual ~WeightSource() = default;
  /// Of no other source of this process, from 1 on.
  std::uint64_t id() const { return id_; }
  /// Rows [first, first + rows) of the slice: out [rows, slice.cols]. From any thread.
  virtual void read(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float* out) const = 0;
  /// The same times `factor`, rounded: for a source that has them in the type that is asked for this is a copy.
  virtual void read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                            BF16* out) const;
  virtual void read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                            FP8* out) const;
  /// Rows of the slice from `first` on where they lie behind each other in bf16 as they are, at any address; null:
  /// nowhere.
  virtual const std::byte* rows_in_bf16(const WeightSlice& slice, std::int64_t first) const;
  /// The largest magnitude in these rows, or `known`, which is one of others, if it is larger: what cannot be above it
  /// is not read.
  virtual float largest(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float known) const;
  /// A tensor of one dimension.
  virtual std::vector<float> vector(const TensorId& id) const = 0;

 private:
  std::vector<float> floats(const WeightSlice& slice, std::int64_t first, std::int64_t rows) const;

  static inline std::atomic<std::uint64_t> last_id_{0};
  std::uint64_t id_;
};

}  // namespace helix
