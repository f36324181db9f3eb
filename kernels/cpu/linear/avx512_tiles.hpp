// What the AVX-512 and AMX kernels share: widening fp8 weights, storing results. Include in files that are
// compiled for x86-64; callers carry HELIX_TARGET_AVX512 or more.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>

#include "kernels/cpu/linear/packing.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"

#define HELIX_TARGET_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")))
#define HELIX_INLINE_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16"), always_inline)) inline

namespace helix::cpu {

/// The bf16 of each non-negative e4m3 value, as upper and lower bytes for vpermi2b.
struct Fp8Table {
  alignas(64) std::array<std::uint8_t, 128> upper, lower;
};
inline const Fp8Table fp8_table = [] {
  Fp8Table table;
  for (unsigned i = 0; i < 128; ++i) {
    const BF16 value = to_bf16(to_float(FP8{static_cast<std::uint8_t>(i)}));
    table.upper[i] = static_cast<std::uint8_t>(value.bits >> 8);
    table.lower[i] = static_cast<std::uint8_t>(value.bits);
  }
  return table;
}();

/// Two rows of a tile from 64 bytes of fp8.
struct Fp8Decoder {
  __m512i upper0, upper1, lower0, lower1, sign;

  HELIX_INLINE_AVX512 Fp8Decoder()
      : upper0(_mm512_load_si512(fp8_table.upper.data())),
        upper1(_mm512_load_si512(fp8_table.upper.data() + 64)),
        lower0(_mm512_load_si512(fp8_table.lower.data())),
        lower1(_mm512_load_si512(fp8_table.lower.data() + 64)),
        sign(_mm512_set1_epi8(static_cast<char>(0x80))) {}

  HELIX_INLINE_AVX512 void operator()(const void* bytes, __m512i& row0, __m512i& row1) const {
    const __m512i v = _mm512_loadu_si512(bytes);
    const __m512i lower = _mm512_permutex2var_epi8(lower0, v, lower1);
    constexpr int or_of_a_and_b_and_c = 0xf8;  // a | (b & c)
    const __m512i upper =
        _mm512_ternarylogic_epi32(_mm512_permutex2var_epi8(upper0, v, upper1), v, sign, or_of_a_and_b_and_c);
    row0 = _mm512_unpacklo_epi8(lower, upper);
    row1 = _mm512_unpackhi_epi8(lower, upper);
  }
};

HELIX_INLINE_AVX512 void store_outputs(float* y, __m512 v, __mmask16 mask) {
  _mm512_mask_storeu_ps(y, mask, v);
}
HELIX_INLINE_AVX512 void store_outputs(BF16* y, __m512 v, __mmask16 mask) {
  _mm256_mask_storeu_epi16(y, mask, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
}

/// Which of 16 outputs exist when `left` remain.
inline __mmask16 output_mask(std::int64_t left) {
  return static_cast<__mmask16>(left >= 16 ? 0xffff : left <= 0 ? 0 : (1 << left) - 1);
}

/// One cache line to the second level cache.
inline void prefetch(const std::byte* line) {
  _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
}

}  // namespace helix::cpu
