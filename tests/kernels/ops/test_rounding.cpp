#include "kernels/ops/rounding.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/ops/nvfp4.hpp"

using namespace helix;

namespace {

/// All of bf16, and the ends of what rounds to each fp8.
std::vector<float> many_floats() {
  std::vector<float> x;
  for (int bits = 0; bits < 1 << 16; ++bits) x.push_back(to_float(BF16{static_cast<std::uint16_t>(bits)}));
  for (int bits = 0; bits < 0x7e; ++bits) {
    const float low = to_float(FP8{static_cast<std::uint8_t>(bits)}),
                high = to_float(FP8{static_cast<std::uint8_t>(bits + 1)}), middle = (low + high) / 2;
    for (const float end : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)})
      x.insert(x.end(), {end, -end});
  }
  return x;
}

}  // namespace

TEST_CASE("many floats are rounded as one is") {
  const std::vector<float> x = many_floats();
  const float factor = GENERATE(1.0f, 0x1p-9f, 0x1p7f, 0.3f);
  CAPTURE(factor);
  std::vector<BF16> bf16(x.size());
  std::vector<FP8> fp8(x.size());
  round_values(x.data(), std::ssize(x), factor, bf16.data());
  round_values(x.data(), std::ssize(x), factor, fp8.data());
  int differences = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float scaled = x[i] * factor;
    if (std::isnan(scaled)) {
      differences += std::isnan(to_float(bf16[i])) && std::isnan(to_float(fp8[i])) ? 0 : 1;
    } else {
      differences += bf16[i].bits == to_bf16(scaled).bits && fp8[i].bits == to_fp8(scaled).bits ? 0 : 1;
    }
  }
  CHECK(differences == 0);
}

TEST_CASE("the largest magnitude is that of numbers") {
  std::vector<float> x(100, -1.0f);
  x[37] = -3.0f;
  x[99] = std::numeric_limits<float>::quiet_NaN();
  CHECK(largest_magnitude(x.data(), std::ssize(x)) == 3.0f);
  CHECK(largest_magnitude(x.data(), 0) == 0.0f);
}

TEST_CASE("e2m1 without branches is e2m1") {
  for (int i = -7000; i <= 7000; ++i) {
    const float x = static_cast<float>(i) / 1000;
    CHECK(rounded_to_e2m1(x) == e2m1_to_float(to_e2m1(x)));
  }
}
