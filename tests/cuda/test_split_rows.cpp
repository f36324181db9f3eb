// What only the emulation can look into: the layout that cuBLASLt is handed, and the terms of split rows.
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "cuda/emulated_backend.hpp"
#include "kernels/cuda/products/quantized_linear.hpp"
#include "kernels/cuda/small/packed_weight.hpp"
#include "simt/global_memory.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

namespace helix::cuda {
namespace {

using simt::DeviceArray;
using testing::random_bf16;

// cuBLAS, "1D Block Scaling Factors Layout": "the tile is 128x4 scaling factors", in which that of row
// `outer` and block `inner` has offset (outer % 32) * 16 + (outer / 32) * 4 + inner; tiles along the blocks
// come first.
TEST_CASE("packed weights: where NVFP4's scales are") {
  const std::int64_t rows = 300, k = 200, tiles = 4;  // 13 blocks of 16
  REQUIRE(scale_tiles(k) == tiles);
  REQUIRE(scale_bytes(rows, k) == 3 * tiles * 512);
  std::set<std::int64_t> seen;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t block = 0; block < 13; ++block) {
      const std::int64_t outer = row % 128, inner = block % 4;
      const std::int64_t tile = row / 128 * tiles + block / 4;
      const std::int64_t at = scale_index(row, block, tiles);
      REQUIRE(at == tile * 512 + (outer % 32) * 16 + (outer / 32) * 4 + inner);
      REQUIRE(at < scale_bytes(rows, k));
      seen.insert(at);
    }
  }
  REQUIRE(seen.size() == 300 * 13);
}

TEST_CASE("packed weights: rows start at whole 16 bytes, of bytes that the model counts") {
  const PackedLayout fp8(33, 100, DType::fp8), nvfp4(33, 100, DType::nvfp4);
  REQUIRE(fp8.rows == 48);
  REQUIRE(fp8.row_bytes == 112);
  REQUIRE(nvfp4.row_bytes == 64);
  REQUIRE(nvfp4.scale_offset == 48 * 64);
  REQUIRE(nvfp4.bytes == nvfp4.scale_offset + 2 * 512);
  for (const DType dtype : {DType::bf16, DType::fp8, DType::nvfp4})
    REQUIRE(static_cast<double>(PackedLayout(4096, 2048, dtype).bytes) ==
            4096 * 2048 * bytes_per_value(dtype));
}

/// Rows as the sum of their terms, and the terms' memory checked for padding.
std::vector<double> sum_of_terms(DType dtype, std::int64_t m, std::int64_t k, const std::vector<BF16>& x,
                                 std::int64_t ldx) {
  const std::int64_t padded = round_up(m, 16);
  const PackedLayout layout(SplitRows::terms(dtype) * padded, k, dtype);
  const DeviceArray<BF16> in(x);
  const DeviceArray<std::byte> values(static_cast<std::size_t>(layout.bytes));
  const DeviceArray<float> units(static_cast<std::size_t>(padded));
  split_rows(Stream{}, dtype, m, k, in.data(), ldx,
             {values.data(), values.data() + layout.scale_offset, units.data(), padded});
  std::vector<double> sums;
  for (std::int64_t i = 0; i < padded; ++i) {
    for (std::int64_t j = 0; j < layout.ld; ++j) {
      double sum = 0.0, step = 1.0;
      for (int t = 0; t < SplitRows::terms(dtype); ++t, step *= static_cast<double>(SplitRows::step(dtype))) {
        const std::int64_t row = t * padded + i;
        float term = 0.0f;
        if (dtype == DType::fp8) {
          term = to_float(FP8{static_cast<std::uint8_t>(values[row * layout.row_bytes + j])});
        } else {
          const auto pair = static_cast<unsigned>(values[row * layout.row_bytes + j / 2]);
          const auto scale = static_cast<std::uint8_t>(
              values[layout.scale_offset + scale_index(row, j / 16, scale_tiles(k))]);
          term = e2m1_to_float(j % 2 == 0 ? pair & 15u : pair >> 4) * to_float(FP8{scale});
        }
        if (i >= m || j >= k) REQUIRE(term == 0.0f);
        sum += static_cast<double>(term) / step;
      }
      const float unit = units[i];
      if (i < m && j < k) sums.push_back(sum * static_cast<double>(unit));
    }
  }
  return sums;
}

TEST_CASE("split rows: the terms add up to the row") {
  const DType dtype = GENERATE(DType::fp8, DType::nvfp4);
  const std::int64_t k = GENERATE(1, 31, 64, 5000), m = 3, ldx = k + 5;
  CAPTURE(name(dtype), k);
  auto x = random_bf16(static_cast<std::size_t>(m * ldx), 3);
  for (std::int64_t j = 0; j < k; ++j) {
    // Row 1: over all magnitudes of the type. Row 2: nothing but zeros.
    auto& wide = x[static_cast<std::size_t>(ldx + j)];
    wide = to_bf16(to_float(wide) * std::exp2(static_cast<float>(j * 37 % 60 - 30)));
    x[static_cast<std::size_t>(2 * ldx + j)] = to_bf16(0.0f);
  }
  const auto sums = sum_of_terms(dtype, m, k, x, ldx);
  for (std::int64_t i = 0; i < m; ++i) {
    double largest = 0.0;
    for (std::int64_t j = 0; j < k; ++j)
      largest = std::max(largest, std::fabs(testing::as_double(x[static_cast<std::size_t>(i * ldx + j)])));
    for (std::int64_t j = 0; j < k; ++j) {
      const double exact = testing::as_double(x[static_cast<std::size_t>(i * ldx + j)]);
      double of_block = 0.0;
      for (std::int64_t b = j / 16 * 16; b < std::min(k, j / 16 * 16 + 16); ++b)
        of_block =
            std::max(of_block, std::fabs(testing::as_double(x[static_cast<std::size_t>(i * ldx + b)])));
      // fp8: exact where the first term is normal, from 2^-6 units on, of which the largest is at least 224;
      // else half of the last subnormal of the second term. NVFP4: (1 + 2^-4) / 6 left by each of four
      // terms; scales that e4m3 has no digits for leave 6 * 2^-10 units of the last term, the largest being
      // at least 1344.
      double bound = 0.0;
      if (dtype == DType::nvfp4) {
        bound = std::pow(17.0 / 96.0, 4) * of_block + largest * 6 * 0x1p-16 / 1344;
      } else if (std::fabs(exact) < largest * 0x1p-6 / 224) {
        bound = largest * 0x1p-14 / 224;
      }
      INFO("row " << i << ", value " << j << ": " << exact);
      REQUIRE(std::fabs(sums[static_cast<std::size_t>(i * k + j)] - exact) <= bound);
    }
  }
}

/// A GPU whose matrix library has no products of NVFP4: sm_90.
class WithoutNvfp4Products final : public testing::EmulatedBackend {
 public:
  WithoutNvfp4Products() : EmulatedBackend(kDatacentreGpu) {}
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    ++allocations;
    return EmulatedBackend::allocate(bytes);
  }
  int allocations = 0, products = 0;

 protected:
  bool multiplies(DType dtype) const override { return dtype != DType::nvfp4; }
  bool multiply(const MatrixProduct& product, const MatrixOperands& operands) override {
    ++products;
    return EmulatedBackend::multiply(product, operands);
  }
};

TEST_CASE("products of terms: none are prepared where there are none") {
  WithoutNvfp4Products backend;
  const std::int64_t m = 40, n = 48, k = 64;
  const DeviceArray<BF16> x(random_bf16(static_cast<std::size_t>(m * k), 4));
  const DeviceArray<float> at_once(static_cast<std::size_t>(m * n)), in_halves(at_once.size());
  const DType dtype = GENERATE(DType::nvfp4, DType::fp8);
  const std::size_t bytes = backend.packed_bytes(n, k, dtype);
  const auto memory = backend.allocate(bytes);
  const PackedWeight w{.data = memory->data(), .n = n, .k = k, .stride_bytes = bytes, .dtype = dtype};
  const WeightSlice slice{.key = 7, .rows = n, .cols = k};
  backend.fill_weight(w, 0, {&slice, 1});
  const int before = backend.allocations;
  backend.linear(m, x.data(), k, w, at_once.data(), n);
  CHECK(backend.allocations == before);  // an op allocates nothing: it may be recorded
  CHECK(before == (dtype == DType::nvfp4 ? 1 : 2));
  CHECK((backend.products > 0) == (dtype == DType::fp8));
  for (const std::int64_t first : {0, 20})
    backend.linear(20, x.data() + first * k, k, w, in_halves.data() + first * n, n);
  for (std::int64_t i = 0; i < m * n; ++i)
    REQUIRE(at_once.span()[static_cast<std::size_t>(i)] ==
            Approx(in_halves.span()[static_cast<std::size_t>(i)]).margin(1e-3));
}

}  // namespace
}  // namespace helix::cuda
