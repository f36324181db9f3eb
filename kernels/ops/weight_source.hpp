// Where weights come from that are not synthetic.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

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
  /// A tensor of one dimension.
  virtual std::vector<float> vector(const TensorId& id) const = 0;

 private:
  static inline std::atomic<std::uint64_t> last_id_{0};
  std::uint64_t id_;
};

}  // namespace helix
