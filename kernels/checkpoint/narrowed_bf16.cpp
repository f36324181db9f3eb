#include "kernels/checkpoint/narrowed_bf16.hpp"

#include <cmath>
#include <cstring>

#include "kernels/ops/bf16.hpp"

namespace helix {
namespace {

// With factors beyond these a subnormal bf16 could become more than none, and an exponent more than 16 bits.
constexpr float least_factor = 0x1p-100f, largest_factor = 0x1p100f;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
using Words = std::uint16_t __attribute__((vector_size(64)));
using HalfBytes = std::uint8_t __attribute__((vector_size(32)));

// e4m3 has exponents 120 less than bf16 and 4 bits less of the fraction. Below its normal values a significand s of 8 bits
// is worth s x 2^(exponent - 134), in units of 2^-9: it loses 125 - exponent bits.
__attribute__((target("avx512bw"))) std::int64_t narrow_many(const std::byte* values, std::int64_t count,
                                                             int exponent, FP8* out) {
  constexpr std::uint16_t fraction_bits = 7;
  // Kept from 0 by adding what the factor subtracts first to both sides.
  const auto raised = static_cast<std::uint16_t>(exponent > 0 ? exponent : 0);
  const auto lowered = static_cast<std::uint16_t>(exponent < 0 ? -exponent : 0);
  const auto first_normal = static_cast<std::uint16_t>((121 + lowered) << fraction_bits);
  const auto base = static_cast<std::uint16_t>((120 + lowered) << fraction_bits);
  const auto last_exponent = static_cast<std::uint16_t>(125 + lowered);
  std::int64_t done = 0;
  for (; done + 32 <= count; done += 32) {
    Words bits;
    std::memcpy(&bits, values + done * 2, sizeof(bits));
    const Words magnitude = bits & 0x7fff;
    const Words at = magnitude + static_cast<std::uint16_t>(raised << fraction_bits);
    const auto subnormal = at < first_normal;
    const Words lost = last_exponent - (at >> fraction_bits);
    const Words shift = subnormal ? (lost < 15 ? lost : Words{} + 15) : Words{} + 4;
    const Words number = subnormal ? (magnitude & 0x7f) | 0x80 : at - base;
    const Words half = (((Words{} + 1) << shift) >> 1) - 1;
    Words code = (number + half + ((number >> shift) & 1)) >> shift;
    code = code < 0x7e ? code : Words{} + 0x7e;
    code = magnitude > 0x7f80 ? Words{} + 0x7f : code;
    const HalfBytes narrow = __builtin_convertvector(code | ((bits >> 8) & 0x80), HalfBytes);
    std::memcpy(static_cast<void*>(out + done), &narrow, sizeof(narrow));
  }
  return done;
}
const bool narrows_many = __builtin_cpu_supports("avx512bw") != 0;
#else
constexpr bool narrows_many = false;
std::int64_t narrow_many(const std::byte*, std::int64_t, int, FP8*) {
  return 0;
}
#endif

}  // namespace

bool narrows_bf16(float factor) {
  int exponent = 0;
  return narrows_many && factor >= least_factor && factor <= largest_factor &&
         std::frexp(factor, &exponent) == 0.5f;
}

void narrow_bf16(const std::byte* values, std::int64_t count, float factor, FP8* out) {
  const std::int64_t done = narrow_many(values, count, std::ilogb(factor), out);
  for (std::int64_t i = done; i < count; ++i) {
    BF16 value;
    std::memcpy(&value, values + i * 2, sizeof(value));
    out[i] = to_fp8(to_float(value) * factor);
  }
}

}  // namespace helix
