// Weights of a source in the CPU's layout, against their conversion one by one.
#include "kernels/state/stored_weights.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "kernels/cpu/linear/packing.hpp"
#include "kernels/state/weight_plan.hpp"

using namespace helix;

namespace {

/// One matrix.
class MatrixSource final : public WeightSource {
 public:
  MatrixSource(std::int64_t cols, std::vector<float> values) : cols_(cols), values_(std::move(values)) {}

  void read(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float* out) const override {
    const auto from = values_.begin() + (slice.row0 + first) * cols_;
    std::copy(from, from + rows * cols_, out);
  }
  std::vector<float> vector(const TensorId&) const override { return {}; }

  float at(std::int64_t row, std::int64_t col) const {
    return values_[static_cast<std::size_t>(row * cols_ + col)];
  }

 private:
  std::int64_t cols_;
  std::vector<float> values_;
};

}  // namespace

TEST_CASE("a matrix is stored at the scale of its largest value, wherever that is") {
  constexpr std::int64_t rows = 320, cols = 1024;  // several pieces
  const int threads = GENERATE(1, 2);
  const float ordinary = GENERATE(0.02f, 0.0f), outlier = GENERATE(0.0f, 3.0f, 1e-4f);
  const std::int64_t outlier_row = GENERATE(0, 40, 319);
  CAPTURE(threads, ordinary, outlier, outlier_row);
  std::vector<float> values(rows * cols);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = ordinary * std::sin(static_cast<float>(i * i % 1000));
  values[static_cast<std::size_t>(outlier_row * cols + 17)] = -outlier;
  const MatrixSource source(cols, std::move(values));

  const std::unique_ptr<Backend> backend = make_cpu_backend(threads);
  const WeightSlice upper{.rows = 64, .cols = cols}, lower{.row0 = 64, .rows = rows - 64, .cols = cols};
  const MatrixPlan plan{{{upper, lower}}};
  PackedWeight weight{.n = rows, .k = cols, .count = 1, .dtype = DType::fp8};
  weight.stride_bytes = backend->packed_bytes(rows, cols, DType::fp8);
  const std::unique_ptr<Buffer> memory = backend->allocate(weight.stride_bytes);
  weight.data = memory->data();
  store_from(source, plan, weight, *backend);

  float largest = 0.0f;
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t col = 0; col < cols; ++col) largest = std::max(largest, std::fabs(source.at(row, col)));
  CHECK(weight.scale == power_of_two_scale(largest, DType::fp8));
  int differences = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = 0; col < cols; ++col) {
      const auto stored =
          static_cast<std::uint8_t>(weight.data[packing::index_in_matrix(row, col, cols, DType::fp8)]);
      differences += stored != to_fp8(source.at(row, col) / weight.scale).bits;
    }
  }
  CHECK(differences == 0);
}
