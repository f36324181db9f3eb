// Rotary position embedding (Su et al. 2021): pair i of a head, (x_i, x_{i + d/2}) or interleaved (x_2i,
// x_2i+1), is turned by the angle position * inv_freq_i:
//   out_first = amplitude * (x_first cos - x_second sin),   out_second = amplitude * (x_second cos + x_first
//   sin)
// Values of a head that no pair holds go on as they are.
// The angle is taken in fp64: at position 10^6 an fp32 product would be off by up to 0.06 rad. Its cosine and
// sine are written out, since the library's are not vectorised without -ffast-math.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t kPairBlock = 128;  // pairs whose cos and sin are kept on the stack

struct Turns {
  float cos[kPairBlock], sin[kPairBlock];
};

/// Of `count` pairs. angle = n pi / 2 + r with |r| <= pi / 4; the Taylor polynomials' errors there are below
/// 4e-9 (sine, to r^11) and 3e-8 (cosine, to r^8).
HELIX_SIMD_CLONES void turns_of(std::int64_t position, const float* inv_freq, float amplitude,
                                std::int64_t count, Turns& turns) {
  constexpr double quarters = 0.636619772367581343;  // 2 / pi
  constexpr double quarter = 1.57079632679489661923;
  constexpr double to_integer = 0x1.8p52;  // adding it leaves the rounded integer in the low mantissa bits
  const auto p = static_cast<double>(position);
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const double angle = p * static_cast<double>(inv_freq[i]);
    const double shifted = angle * quarters + to_integer;
    const auto r = static_cast<float>(angle - (shifted - to_integer) * quarter);
    const auto n = static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(shifted));
    const float s = r * r;
    const float sine =
        r + r * s *
                (-1.0f / 6 +
                 s * (1.0f / 120 + s * (-1.0f / 5040 + s * (1.0f / 362880 + s * (-1.0f / 39916800)))));
    const float cosine = 1.0f + s * (-0.5f + s * (1.0f / 24 + s * (-1.0f / 720 + s * (1.0f / 40320))));
    const bool odd = (n & 1u) != 0;
    const std::uint32_t cos_sign = (n + 1u) << 30 & 0x80000000u, sin_sign = n << 30 & 0x80000000u;
    const float unsigned_cos = odd ? sine : cosine, unsigned_sin = odd ? cosine : sine;
    turns.cos[i] = amplitude * std::bit_cast<float>(std::bit_cast<std::uint32_t>(unsigned_cos) ^ cos_sign);
    turns.sin[i] = amplitude * std::bit_cast<float>(std::bit_cast<std::uint32_t>(unsigned_sin) ^ sin_sign);
  }
}

/// Pairs (in[i * kStep], in[i * kStep + second]); may work in place.
template <int kStep>
inline void turn_pairs(std::int64_t count, const Turns& turns, const BF16* in, std::int64_t second,
                       BF16* to) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = to_float(in[i * kStep]), y = to_float(in[i * kStep + second]);
    to[i * kStep] = to_bf16(x * turns.cos[i] - y * turns.sin[i]);
    to[i * kStep + second] = to_bf16(y * turns.cos[i] + x * turns.sin[i]);
  }
}

HELIX_SIMD_CLONES void turn_halves(std::int64_t count, const Turns& turns, const BF16* in,
                                   std::int64_t second, BF16* to) {
  turn_pairs<1>(count, turns, in, second, to);
}

HELIX_SIMD_CLONES void turn_interleaved(std::int64_t count, const Turns& turns, const BF16* in, BF16* to) {
  turn_pairs<2>(count, turns, in, 1, to);
}

}  // namespace

void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads, const std::int64_t* positions,
          HeadRows<const BF16> x, HeadRows<BF16> out, int threads) {
  const std::int64_t pairs = table.rope_dim / 2;
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto passed = static_cast<std::size_t>(table.passed) * sizeof(BF16);
    for (std::int64_t h = 0; h < heads && passed > 0; ++h) {
      std::memmove(out.at(b, h) + table.rope_dim, x.at(b, h) + table.rope_dim, passed);
    }
    Turns turns;
    for (std::int64_t begin = 0; begin < pairs; begin += kPairBlock) {
      const std::int64_t count = std::min(kPairBlock, pairs - begin);
      turns_of(positions[b], table.inv_freq + begin, table.amplitude, count, turns);
      for (std::int64_t h = 0; h < heads; ++h) {
        const BF16* const in = x.at(b, h);
        BF16* const to = out.at(b, h);
        if (table.interleaved)
          turn_interleaved(count, turns, in + 2 * begin, to + 2 * begin);
        else
          turn_halves(count, turns, in + begin, pairs, to + begin);
      }
    }
  }
}

}  // namespace helix::cpu
