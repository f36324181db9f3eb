// AVX-512 pieces of the AMX kernels. To be included where the target pragma is on: everything is inline.
#pragma once

// gcc 12's own intrinsics pass an uninitialised vector for lanes that no mask selects (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/bf16.hpp"
#include "kernels/fp8.hpp"

namespace helix::cpu {

/// Upper and lower bytes of the bf16 of every e4m3 magnitude.
struct Fp8Bytes {
  alignas(64) std::uint8_t upper[128];
  alignas(64) std::uint8_t lower[128];
};
inline const Fp8Bytes fp8_bytes = [] {
  Fp8Bytes bytes{};
  for (int m = 0; m < 128; ++m) {
    const std::uint16_t bits = to_bf16(to_float(FP8{static_cast<std::uint8_t>(m)})).bits;
    bytes.upper[m] = static_cast<std::uint8_t>(bits >> 8);
    bytes.lower[m] = static_cast<std::uint8_t>(bits);
  }
  return bytes;
}();

}  // namespace helix::cpu

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")

namespace helix::cpu {

/// Widens 64 e4m3 values to bf16: those in even bytes, and those in odd bytes.
struct Widen {
  __m512i upper[2], lower[2];
  Widen()
      : upper{_mm512_load_si512(fp8_bytes.upper), _mm512_load_si512(fp8_bytes.upper + 64)},
        lower{_mm512_load_si512(fp8_bytes.lower), _mm512_load_si512(fp8_bytes.lower + 64)} {}

  void operator()(const void* from, void* to_even, void* to_odd) const {
    const Parts parts = split(_mm512_loadu_si512(from));
    _mm512_storeu_si512(to_even, parts.even);
    _mm512_storeu_si512(to_odd, parts.odd);
  }
  /// Likewise of 32 values.
  void half(const void* from, void* to_even, void* to_odd) const {
    const Parts parts = split(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(from))));
    _mm256_storeu_si256(static_cast<__m256i*>(to_even), _mm512_castsi512_si256(parts.even));
    _mm256_storeu_si256(static_cast<__m256i*>(to_odd), _mm512_castsi512_si256(parts.odd));
  }

 private:
  struct Parts {
    __m512i even, odd;
  };
  Parts split(__m512i x) const {
    // The look-up uses seven bits of each byte, so the sign need not be masked away.
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    const __m512i magnitude = _mm512_permutex2var_epi8(upper[0], x, upper[1]);
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, x, sign, 0xf8);  // magnitude | (x & sign)
    const __m512i low = _mm512_permutex2var_epi8(lower[0], x, lower[1]);
    const __m512i low_byte = _mm512_set1_epi16(0x00ff);
    // low_byte ? low : high << 8, and low_byte ? low >> 8 : high
    return {_mm512_ternarylogic_epi32(low_byte, low, _mm512_slli_epi16(high, 8), 0xca),
            _mm512_ternarylogic_epi32(low_byte, _mm512_srli_epi16(low, 8), high, 0xca)};
  }
};

/// 2^x for x <= 0, relative error below 3e-7 (minimax polynomial of 2^f on [0, 1)); exactly 0 for -inf.
inline __m512 exp2_avx512(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, 0x09);  // x - floor(x), no exceptions; 0 for infinities
  __m512 y = _mm512_set1_ps(1.8775767e-3f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(8.9893397e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.5826318e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.4015361e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.9315308e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.9999994e-1f));
  return _mm512_scalef_ps(y, x);  // * 2^floor(x)
}

/// Rounded to bf16, as fp32.
inline __m512 as_floats(__m256bh x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(x)), 16));
}

inline float max_of_lanes(__m512 x) {
  x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
  x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
  x = _mm512_max_ps(x, _mm512_permute_ps(x, 0x4e));
  x = _mm512_max_ps(x, _mm512_permute_ps(x, 0xb1));
  return _mm512_cvtss_f32(x);
}
inline float sum_of_lanes(__m512 x) {
  x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
  x = _mm512_add_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
  x = _mm512_add_ps(x, _mm512_permute_ps(x, 0x4e));
  x = _mm512_add_ps(x, _mm512_permute_ps(x, 0xb1));
  return _mm512_cvtss_f32(x);
}

}  // namespace helix::cpu

#pragma GCC pop_options
