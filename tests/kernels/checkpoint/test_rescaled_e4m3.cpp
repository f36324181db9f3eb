#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "kernels/checkpoint/rescaled_e4m3.hpp"

using namespace helix;

TEST_CASE("fp8 with a scale becomes fp8 with another as through floats") {
  std::vector<std::byte> all;
  for (int round = 0; round < 2; ++round)  // in steps of 64 and one by one
    for (int bits = 0; bits < 256 - 37 * round; ++bits) all.push_back(static_cast<std::byte>(bits));
  const float scale = GENERATE(1.0f, 0.0371f, -2.5f, 0.0f), factor = GENERATE(1.0f, 0x1p-8f, 0x1p12f);
  CAPTURE(scale, factor);
  std::vector<FP8> out(all.size());
  RescaledE4m3(scale, factor).translate(all.data(), std::ssize(all), out.data());
  int differences = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const float x = to_float(FP8{static_cast<std::uint8_t>(all[i])}) * scale * factor;
    const float rounded = to_float(out[i]), expected = to_float(to_fp8(x));
    differences += std::isnan(x) ? !std::isnan(rounded) : rounded != expected;
  }
  CHECK(differences == 0);
}
