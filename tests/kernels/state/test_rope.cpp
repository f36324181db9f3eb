// Expected frequencies and scales: Python transcriptions of transformers' modeling_rope_utils.py and
// DeepSeek-V3's modeling_deepseek.py, run once.
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/state/rope.hpp"
#include "tests/compare.hpp"

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

TEST_CASE("LongRoPE stretches each pair by a factor of its own") {
  RopeSpec rope{.theta = 10000.0,
                .scaling = RopeScalingKind::longrope,
                .factor = 32.0,
                .stretches = {1.0, 1.25, 40.0, 64.0},
                .original_max_position = 4096};
  check_frequencies(rope, 8, {{0, 1.0}, {1, 0.08}, {2, 0.00025}, {3, 1.5625e-5}});
  CHECK(rope_amplitude(rope) == Approx(1.1902380714238083).epsilon(1e-14));  // of Phi-3.5-mini
  rope.attention_factor = 1.5;
  CHECK(rope_amplitude(rope) == 1.5);
  rope.attention_factor = 0.0;
  rope.factor = 0.5;
  CHECK(rope_amplitude(rope) == 1.0);
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
