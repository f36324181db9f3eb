// AVX-512 pieces of the AMX kernels. To be included where the target pragma is on: everything is inline.
#pragma once

// gcc 12's own intrinsics pass an uninitialised vector for lanes that no mask selects (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/machine/kv_fp8.hpp"
#include "kernels/ops/bf16.hpp"

namespace helix::cpu {

/// Upper and lower bytes of the bf16 of the codes 0xf0 + i (kv_fp8.hpp), for look-ups by a code's
/// last six bits.
struct Fp8Bytes {
  alignas(64) std::uint8_t upper[64] = {};
  alignas(64) std::uint8_t lower[64] = {};
};
inline constexpr Fp8Bytes fp8_bytes = [] {
  Fp8Bytes bytes;
  for (unsigned code = 0xf0; code <= 0xff; ++code) {
    const std::uint16_t bits = to_bf16(to_float(from_kv_code(static_cast<std::uint8_t>(code)))).bits;
    bytes.upper[code & 63] = static_cast<std::uint8_t>(bits >> 8);
    bytes.lower[code & 63] = static_cast<std::uint8_t>(bits);
  }
  return bytes;
}();

/// The matrix by which GF2P8AFFINEQB moves bit from[i] of each byte to bit 7 - i; -1: zero.
constexpr std::int64_t bit_moves(std::array<int, 8> from) {
  std::uint64_t matrix = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (from[i] >= 0) matrix |= std::uint64_t{1} << (8 * i + static_cast<unsigned>(from[i]));
  return static_cast<std::int64_t>(matrix);
}

}  // namespace helix::cpu

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {

/// Widens 64 e4m3 values of the KV cache to bf16: those in the first and in the second halves of 16 bytes.
struct Widen {
  __m512i upper, lower;
  Widen() : upper(_mm512_load_si512(fp8_bytes.upper)), lower(_mm512_load_si512(fp8_bytes.lower)) {}

  void operator()(const void* from, void* to_first, void* to_second) const {
    const Parts parts = split(_mm512_loadu_si512(from));
    _mm512_storeu_si512(to_first, parts.first);
    _mm512_storeu_si512(to_second, parts.second);
  }
  /// Likewise of 32 values.
  void half(const void* from, void* to_first, void* to_second) const {
    const Parts parts = split(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(from))));
    _mm256_storeu_si256(static_cast<__m256i*>(to_first), _mm512_castsi512_si256(parts.first));
    _mm256_storeu_si256(static_cast<__m256i*>(to_second), _mm512_castsi512_si256(parts.second));
  }

  struct Parts {
    __m512i first, second;
  };
  Parts split(__m512i codes) const {
    // The bf16 of a normal number is sign, e3, four times ~e3, e2 to e0, m2 to m0, 0000: the exponent's bias
    // is 120 more. The code holds all these bits inverted.
    const __m512i to_high = _mm512_set1_epi64(bit_moves({0, 7, 7, 7, 7, 7, 6, 5}));
    const __m512i to_low = _mm512_set1_epi64(bit_moves({4, 3, 2, 1, -1, -1, -1, -1}));
    const __mmask64 others = _mm512_cmpge_epu8_mask(codes, _mm512_set1_epi8(static_cast<char>(0xf0)));
    __m512i high = _mm512_gf2p8affine_epi64_epi8(codes, to_high, 0xc3);
    high = _mm512_mask_permutexvar_epi8(high, others, codes, upper);
    __m512i low = _mm512_gf2p8affine_epi64_epi8(codes, to_low, 0xf0);
    low = _mm512_mask_permutexvar_epi8(low, others, codes, lower);
    return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
  }
};

/// 2^x for x <= 0, relative error below 4e-6 (minimax polynomial of 2^f on [0, 1) with 2^0 = 1); exactly 0
/// for -inf.
inline __m512 exp2_avx512(__m512 x) {
  const __m512 f = _mm512_reduce_ps(x, 0x09);  // x - floor(x), no exceptions; 0 for infinities
  __m512 y = _mm512_set1_ps(1.34267091e-2f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.22424343e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.41280223e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.93044843e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, x);  // * 2^floor(x)
}

/// Rounded to bf16, as fp32.
inline __m512 as_floats(__m256bh x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(x)), 16));
}

/// The first and the second of 16 pairs of bf16, as fp32.
inline __m512 even_of_pairs(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
inline __m512 odd_of_pairs(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
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
