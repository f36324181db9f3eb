// What is kept of synthetic weights gives the products that making them anew gives.
#include <catch2/catch.hpp>

#include "kernels/reference/synthetic_weights.hpp"
#include "values.hpp"

using namespace helix;
using reference::Vector;

TEST_CASE("products with kept weights are those with new ones, also where there is no room to keep all") {
  constexpr std::int64_t rows = 5, cols = 37;
  const Vector x = random_doubles(cols, 3);
  for (const std::size_t room : {std::size_t{0}, rows * cols * sizeof(float), std::size_t{1} << 20}) {
    reference::SyntheticWeights weights(room);
    for (int round = 0; round < 2; ++round) {
      for (const std::uint64_t key : {11u, 12u}) {
        for (const DType dtype : {DType::bf16, DType::fp8, DType::nvfp4}) {
          const WeightSlice whole{.key = key, .rows = rows, .cols = cols, .scale = 0.5f};
          CAPTURE(room, round, key, name(dtype));
          CHECK(weights.multiply(whole, dtype, x) == reference::multiply(whole, dtype, x));
          // The same tensor of another model.
          const WeightSlice other{.key = key, .rows = rows - 1, .cols = cols, .scale = 0.25f};
          CHECK(weights.multiply(other, dtype, x) == reference::multiply(other, dtype, x));
        }
      }
    }
  }
}

TEST_CASE("a product is the sum of a row's values") {
  const WeightSlice whole{.key = 7, .rows = 3, .cols = 16, .scale = 0.5f};
  const Vector x = random_doubles(16, 5);
  const Vector y = reference::multiply(whole, DType::bf16, x);
  for (std::int64_t r = 0; r < whole.rows; ++r)
    CHECK(y[static_cast<std::size_t>(r)] ==
          Approx(reference::dot(reference::weight_row(whole, r), x)).epsilon(1e-12));
}
