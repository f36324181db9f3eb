// Expected frequencies and scales: Python transcriptions of transformers' modeling_rope_utils.py and
// DeepSeek-V3's modeling_deepseek.py, run once.
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/cpu/small_ops.hpp"
#include "kernels/rope.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

constexpr double kFp32 = 0x1p-24;

void check_frequencies(const RopeSpec& rope, std::int64_t dim,
                       const std::vector<std::pair<std::size_t, double>>& known) {
  const auto f = inv_frequencies(rope, dim);
  REQUIRE(f.size() == static_cast<std::size_t>(dim / 2));
  for (const auto& [pair, value] : known) {
    INFO("pair " << pair);
    CHECK(first_difference(std::vector<float>{f[pair]}, std::vector<double>{value}, kFp32) == "");
  }
}

RopeSpec deepseek_yarn() {
  return {.theta = 10000.0,
          .interleaved = true,
          .scaling = RopeScalingKind::yarn,
          .factor = 40.0,
          .beta_fast = 32.0,
          .beta_slow = 1.0,
          .mscale = 1.0,
          .mscale_all_dim = 1.0,
          .original_max_position = 4096};
}

/// The rotation as a product with exp(i angle), for positions where fp64 is plenty.
std::vector<double> rotated(const std::vector<double>& x, const std::vector<float>& inv_freq,
                            double amplitude, bool interleaved, std::int64_t position) {
  std::vector<double> y(x.size());
  const std::size_t pairs = x.size() / 2;
  for (std::size_t i = 0; i < pairs; ++i) {
    const std::size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + pairs;
    const double angle = static_cast<double>(position) * as_double(inv_freq[i]);
    y[first] = amplitude * (x[first] * std::cos(angle) - x[second] * std::sin(angle));
    y[second] = amplitude * (x[second] * std::cos(angle) + x[first] * std::sin(angle));
  }
  return y;
}

}  // namespace

TEST_CASE("plain and linearly scaled frequencies") {
  check_frequencies({.theta = 10000.0}, 8, {{0, 1.0}, {1, 0.1}, {2, 0.01}, {3, 0.001}});
  check_frequencies({.theta = 10000.0, .scaling = RopeScalingKind::linear, .factor = 4.0}, 8,
                    {{0, 0.25}, {3, 0.00025}});
}

TEST_CASE("llama3 frequencies of Llama-3.2-1B") {
  check_frequencies({.theta = 500000.0,
                     .scaling = RopeScalingKind::llama3,
                     .factor = 32.0,
                     .low_freq_factor = 1.0,
                     .high_freq_factor = 4.0,
                     .original_max_position = 8192},
                    64,
                    {{0, 1.0},
                     {1, 0.6636012376960885},
                     {9, 0.024955408670558694},
                     {13, 0.004839421345719893},
                     {14, 0.0032114459947525913},
                     {15, 0.001290547928209264},
                     {16, 0.00042955679655936815},
                     {17, 9.70828780262767e-05},
                     {18, 1.9461638184831125e-05},
                     {31, 9.418306725434909e-08}});
}

TEST_CASE("YaRN frequencies of DeepSeek") {
  check_frequencies(deepseek_yarn(), 64,
                    {{0, 1.0},
                     {9, 0.07498942093324558},
                     {10, 0.056234132519034905},
                     {11, 0.03900692656714386},
                     {16, 0.0055},
                     {22, 0.0001778279410038922},
                     {23, 3.33380358040831e-05},
                     {24, 2.5e-05},
                     {31, 3.33380358040831e-06}});
}

TEST_CASE("amplitude and attention scale") {
  ModelSpec model;
  model.attention.kind = AttentionKind::mla;
  model.attention.qk_head_dim = 192;
  model.rope = deepseek_yarn();
  CHECK(rope_amplitude(model.rope) == 1.0f);  // V3: both mscales are 1
  CHECK(attention_scale(model) == Approx(0.1352337788608801).epsilon(1e-14));
  model.rope.mscale = model.rope.mscale_all_dim = 0.707;  // V2-Lite
  CHECK(rope_amplitude(model.rope) == 1.0f);
  CHECK(attention_scale(model) == Approx(0.11472138679292611).epsilon(1e-14));
  model.rope.mscale = 1.0;
  model.rope.mscale_all_dim = 0.0;  // YaRN of models that name neither
  CHECK(rope_amplitude(model.rope) == Approx(1.3688879454113936).epsilon(kFp32));
  CHECK(attention_scale(model) == Approx(1.0 / std::sqrt(192.0)).epsilon(1e-14));
  model.rope.scaling = RopeScalingKind::none;
  CHECK(rope_amplitude(model.rope) == 1.0f);

  ModelSpec llama;
  llama.attention.qk_head_dim = 64;
  CHECK(attention_scale(llama) == 0.125);
}

TEST_CASE("rope turns each head by its request's position, with strides of its own") {
  const bool interleaved = GENERATE(false, true);
  const std::int64_t dim = GENERATE(2, 6, 64, 300);  // more pairs than one block of the kernel
  const std::int64_t batch = 3, heads = 5;
  const std::int64_t head_stride = dim + 7, row_stride = heads * head_stride + 11;
  const std::int64_t out_head_stride = dim + 1, out_row_stride = heads * out_head_stride + 2;
  // The last one is where an fp32 angle would be wrong by 0.06 rad.
  const std::vector<std::int64_t> positions{0, 65535, 1'048'577};
  const auto inv_freq = inv_frequencies({.theta = 10000.0}, dim);
  const float amplitude = 1.25f;
  const auto x = random_bf16(static_cast<std::size_t>(batch * row_stride), 1);
  std::vector<BF16> out(static_cast<std::size_t>(batch * out_row_stride), bf16_nan());
  std::vector<double> expected(out.size(), NAN);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      std::vector<double> head;
      for (std::int64_t d = 0; d < dim; ++d) {
        head.push_back(as_double(x[static_cast<std::size_t>(b * row_stride + h * head_stride + d)]));
      }
      const auto y = rotated(head, inv_freq, 1.25, interleaved, positions[static_cast<std::size_t>(b)]);
      std::copy(y.begin(), y.end(), expected.begin() + b * out_row_stride + h * out_head_stride);
    }
  }
  const RopeTable table{inv_freq.data(), dim, amplitude, interleaved};
  cpu::rope(table, batch, heads, positions.data(), x.data(), row_stride, head_stride, out.data(),
            out_row_stride, out_head_stride, 2);
  // One rounding to bf16, and fp32 products of values below 6 that may cancel.
  CHECK(first_difference(out, expected, 0x1.01p-8, 6 * 0x1p-21) == "");

  std::vector<BF16> in_place = x;
  cpu::rope(table, batch, heads, positions.data(), in_place.data(), row_stride, head_stride, in_place.data(),
            row_stride, head_stride, 1);
  std::vector<BF16> copied = x;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      std::copy_n(out.begin() + b * out_row_stride + h * out_head_stride, dim,
                  copied.begin() + b * row_stride + h * head_stride);
    }
  }
  CHECK(first_difference(in_place, copied, 0.0) == "");
}

TEST_CASE("rotated dot products depend on the distance of positions only") {
  const std::int64_t dim = 64;
  const auto inv_freq = inv_frequencies({.theta = 500000.0}, dim);
  const bool interleaved = GENERATE(false, true);
  const RopeTable table{inv_freq.data(), dim, 1.0f, interleaved};
  const auto q = random_bf16(64, 1), k = random_bf16(64, 2);
  const auto dot = [&](std::int64_t q_position, std::int64_t k_position) {
    std::vector<BF16> a(64), b(64);
    cpu::rope(table, 1, 1, &q_position, q.data(), dim, dim, a.data(), dim, dim, 1);
    cpu::rope(table, 1, 1, &k_position, k.data(), dim, dim, b.data(), dim, dim, 1);
    double sum = 0.0;
    for (std::size_t i = 0; i < 64; ++i) sum += as_double(a[i]) * as_double(b[i]);
    return sum;
  };
  // 128 roundings of 2^-8, random: |q||k| = 64 times 2^-8 * sqrt(2 / 64), doubled for safety.
  CHECK(dot(1'000'100, 1'000'000) == Approx(dot(100, 0)).margin(2 * 64 * 0x1p-8 * std::sqrt(2.0 / 64)));
}
