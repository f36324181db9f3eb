// Synthetic weights of the fp64 reference: made value by value as they are needed, and kept, since making them takes many
// times as long as multiplying by them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "kernels/ops/packed_weight.hpp"
#include "kernels/reference/math.hpp"
#include "roofline/base/dtype.hpp"

namespace helix::reference {

/// Those of one model; for one thread at a time.
class SyntheticWeights {
 public:
  /// Keeps so many bytes, of a large model those that are used first.
  explicit SyntheticWeights(std::size_t bytes = std::size_t{128} << 20) : room_(bytes) {}

  /// y = W x of the whole matrix (row0 = col0 = 0) as weights of this dtype hold it. What they cannot hold is
  /// no error of the kernels.
  Vector multiply(const WeightSlice& whole, DType dtype, std::span<const double> x);

 private:
  using Key = std::tuple<std::uint64_t, std::int64_t, std::int64_t, DType>;  // key, rows, cols

  /// Where a matrix is, or will be, row by row; null: there is no room for it.
  std::vector<BF16>* kept(const WeightSlice& whole, DType dtype);

  std::size_t room_;
  std::map<Key, std::vector<BF16>>
      kept_;  // [rows, cols], before the matrix's scale: exact, whatever the dtype
};

/// The same product, of which nothing is kept.
Vector multiply(const WeightSlice& whole, DType dtype, std::span<const double> x);
/// Row `row` of the whole matrix, in bf16.
Vector weight_row(const WeightSlice& whole, std::int64_t row);

}  // namespace helix::reference
