#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/checkpoint/narrowed_bf16.hpp"
#include "kernels/checkpoint/rescaled_e4m3.hpp"

using namespace helix;

namespace {

BF16 rounded_as(float x, BF16) {
  return to_bf16(x);
}
FP8 rounded_as(float x, FP8) {
  return to_fp8(x);
}

template <class T>
int differences_from_floats(float scale, float factor) {
  std::vector<std::byte> all;
  for (int round = 0; round < 2; ++round)  // many at once and one by one
    for (int bits = 0; bits < 256 - 37 * round; ++bits) all.push_back(static_cast<std::byte>(bits));
  std::vector<T> out(all.size());
  RescaledE4m3<T>(scale, factor).translate(all.data(), std::ssize(all), out.data());
  int differences = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const float x = to_float(FP8{static_cast<std::uint8_t>(all[i])}) * scale * factor;
    const float rounded = to_float(out[i]), expected = to_float(rounded_as(x, T{}));
    differences += std::isnan(x) ? !std::isnan(rounded) : rounded != expected;
  }
  return differences;
}

}  // namespace

TEST_CASE("fp8 with a scale becomes fp8 with another and bf16 with none as through floats") {
  const float scale = GENERATE(1.0f, 0.0371f, -2.5f, 0.0f), factor = GENERATE(1.0f, 0x1p-8f, 0x1p12f);
  CAPTURE(scale, factor);
  CHECK(differences_from_floats<FP8>(scale, factor) == 0);
  CHECK(differences_from_floats<BF16>(scale, factor) == 0);
}

TEST_CASE(
    "each bf16 becomes the fp8 that it becomes through a float, at every factor that this CPU narrows by") {
  std::vector<std::byte> all(2 * 65536 + 2 * 11);
  for (std::size_t i = 0; i < all.size() / 2; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    std::memcpy(all.data() + 2 * i, &bits, sizeof(bits));
  }
  CHECK_FALSE(narrows_bf16(0.75f));
  CHECK_FALSE(narrows_bf16(-2.0f));
  CHECK_FALSE(narrows_bf16(NAN));
  for (int exponent = -149; exponent < 128; ++exponent) {
    const float factor = std::ldexp(1.0f, exponent);
    if (!narrows_bf16(factor)) continue;
    std::vector<FP8> out(all.size() / 2);
    narrow_bf16(all.data(), std::ssize(out), factor, out.data());
    int differences = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const float x = to_float(BF16{static_cast<std::uint16_t>(i)});
      differences += out[i].bits != to_fp8(x * factor).bits;
    }
    CAPTURE(exponent);
    CHECK(differences == 0);
  }
}
