#include <catch2/catch.hpp>

#include "backend/synthetic_weights.hpp"
#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/packing.hpp"
#include "kernels/ops/fp8.hpp"
#include "roofline/base/error.hpp"
#include "tests/compare.hpp"
#include "tests/kernels/cpu/isa_scope.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

double packed_value(const PackedWeight& w, std::int64_t output, std::int64_t input) {
  const std::int64_t i = packing::index_in_matrix(output, input, w.k, w.dtype);
  if (w.dtype == DType::fp8) return as_double(to_float(reinterpret_cast<const FP8*>(w.data)[i]));
  return as_double(reinterpret_cast<const BF16*>(w.data)[i]);
}

}  // namespace

TEST_CASE("packed weights hold the synthetic values and zeros around them") {
  const Isa isa = GENERATE(from_range(available_isas()));
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const std::int64_t k = GENERATE(1, 2, 31, 32, 33, 95, 200);
  const int threads = GENERATE(1, 2, 3);
  CAPTURE(name(isa), name(dtype), k, threads);
  const IsaScope scope(isa);

  // Slices that begin and end inside panels; scales that make bf16 round, and fp8 saturate and underflow.
  const std::vector<WeightSlice> slices{{11, 0, 0, 3, k, 0.25f},
                                        {12, 5'000'000'000, 17, 45, k, 0.0371f},
                                        {13, 9, 4096, 1, k, 700.0f},
                                        {14, 2, 3, 20, k, 0.003f}};
  const std::int64_t n = 69;
  const std::size_t bytes = cpu::packed_bytes(n, k, dtype);
  REQUIRE(bytes % 64 == 0);
  std::vector<std::byte> memory(2 * bytes, std::byte{0xff});
  const PackedWeight w{memory.data(), n, k, 2, bytes, dtype};
  cpu::fill_weight(w, 1, slices, threads);

  CHECK(std::count(memory.begin(), memory.begin() + static_cast<std::ptrdiff_t>(bytes), std::byte{0xff}) ==
        static_cast<std::ptrdiff_t>(bytes));
  PackedWeight second = w;
  second.data += bytes;
  std::vector<double> expected, actual;
  for (std::int64_t output = 0; output < 96; ++output) {
    for (std::int64_t input = 0; input < (k + 31) / 32 * 32; ++input) {
      actual.push_back(packed_value(second, output, input));
      double value = 0.0;
      std::int64_t row = output;
      for (const WeightSlice& s : slices) {
        if (row >= 0 && row < s.rows && input < k) value = slice_value(s, row, input, dtype);
        row -= s.rows;
      }
      expected.push_back(value);
    }
  }
  REQUIRE(actual.size() * static_cast<std::size_t>(packing::bytes_per_weight(dtype)) == bytes);
  CHECK(first_difference(actual, expected, 0.0) == "");
}

TEST_CASE("weights of a type that the CPU has no kernels for are refused") {
  CHECK_THROWS_AS(cpu::packed_bytes(32, 32, DType::nvfp4), UsageError);
}
