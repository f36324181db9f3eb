// Rotary position embedding (Su et al. 2021): pair i of a head, (x_i, x_{i + d/2}) or interleaved (x_2i,
// x_2i+1), is turned by the angle position * inv_freq_i:
//   out_first = amplitude * (x_first cos - x_second sin),   out_second = amplitude * (x_second cos + x_first
//   sin)
// The angle is taken in fp64: at position 10^6 an fp32 product would be off by up to 0.06 rad.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/small_ops.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t kPairBlock = 128;  // pairs whose cos and sin are kept on the stack

struct Turn {
  float cos, sin;
};

Turn turn_of(std::int64_t position, float inv_freq, float amplitude) {
  constexpr double two_pi = 6.283185307179586476925;
  const double angle = std::remainder(static_cast<double>(position) * static_cast<double>(inv_freq), two_pi);
  const float a = static_cast<float>(angle);
  return {amplitude * std::cos(a), amplitude * std::sin(a)};
}

}  // namespace

void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads, const std::int64_t* positions,
          const BF16* x, std::int64_t row_stride, std::int64_t head_stride, BF16* out,
          std::int64_t out_row_stride, std::int64_t out_head_stride, int threads) {
  const std::int64_t pairs = table.rope_dim / 2;
  const std::int64_t pair_step = table.interleaved ? 2 : 1;
  const std::int64_t second = table.interleaved ? 1 : pairs;
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    Turn turns[kPairBlock];
    for (std::int64_t begin = 0; begin < pairs; begin += kPairBlock) {
      const std::int64_t count = std::min(kPairBlock, pairs - begin);
      for (std::int64_t i = 0; i < count; ++i) {
        turns[i] = turn_of(positions[b], table.inv_freq[begin + i], table.amplitude);
      }
      for (std::int64_t h = 0; h < heads; ++h) {
        const BF16* in = x + b * row_stride + h * head_stride + begin * pair_step;
        BF16* to = out + b * out_row_stride + h * out_head_stride + begin * pair_step;
        for (std::int64_t i = 0; i < count; ++i) {
          const float first_in = to_float(in[i * pair_step]);
          const float second_in = to_float(in[i * pair_step + second]);
          to[i * pair_step] = to_bf16(first_in * turns[i].cos - second_in * turns[i].sin);
          to[i * pair_step + second] = to_bf16(second_in * turns[i].cos + first_in * turns[i].sin);
        }
      }
    }
  }
}

}  // namespace helix::cpu
