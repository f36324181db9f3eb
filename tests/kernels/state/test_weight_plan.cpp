#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/reference/synthetic_weights.hpp"
#include "kernels/state/weight_plan.hpp"

using namespace helix;

TEST_CASE("every tensor of every layer, head and expert has a key of its own") {
  const ModelSpec model = load_model("tiny-mla");
  std::set<std::uint64_t> keys;
  std::size_t count = 0;
  for (std::uint64_t seed : {1, 2}) {
    for (Tensor tensor :
         {Tensor::o, Tensor::expert_gate, Tensor::expert_up, Tensor::expert_down, Tensor::w_uk}) {
      for (std::int64_t layer = 0; layer < 3; ++layer) {
        for (std::int64_t index = 0; index < 8; ++index, ++count) {
          keys.insert(whole_tensor(model, seed, tensor, layer, index).key);
        }
      }
    }
  }
  CHECK(keys.size() == count);
}

TEST_CASE("tied models read the head from the embedding") {
  ModelSpec model = load_model("llama-3.2-1b");
  REQUIRE(model.tied_embeddings);
  CHECK(whole_tensor(model, 1, Tensor::lm_head) == whole_tensor(model, 1, Tensor::embedding));
  model.tied_embeddings = false;
  CHECK(whole_tensor(model, 1, Tensor::lm_head).key != whole_tensor(model, 1, Tensor::embedding).key);
}

TEST_CASE("scales are powers of two, so that bf16 holds every weight exactly") {
  for (const char* name : {"llama-3.2-1b", "deepseek-r1", "qwen3-32b"}) {
    const ModelSpec model = load_model(name);
    for (Tensor tensor : {Tensor::embedding, Tensor::lm_head, Tensor::q, Tensor::k, Tensor::v, Tensor::o,
                          Tensor::gate, Tensor::up, Tensor::down}) {
      int exponent = 0;
      CHECK(std::frexp(whole_tensor(model, 1, tensor).scale, &exponent) == 0.5f);
    }
  }
}

TEST_CASE("fp8 matrices hold the reference's values, whatever their scales") {
  const std::vector<std::vector<WeightSlice>> plan{{{.key = 1, .scale = 8.0f}},
                                                   {{.key = 2, .scale = 0x1p-6f}}};
  CHECK(quantized(plan, DType::bf16).scale == 1.0f);
  CHECK(quantized(plan, DType::bf16).matrices == plan);
  const QuantizedMatrices stored = quantized(plan, DType::fp8);
  for (std::size_t i = 0; i < plan.size(); ++i) {
    for (int h = -128; h < 128; ++h) {
      const float unit = static_cast<float>(2 * h + 1) / 256;
      const float held = stored.scale * synthetic::stored_fp8(stored.matrices[i][0].scale * unit);
      // The second matrix is 2^9 smaller, which leaves it 255 / 2^9 and its smaller values subnormal.
      if (i == 0 || std::fabs(unit) * 256 >= 8)
        CHECK(held == plan[i][0].scale * synthetic::fp8_unit_value(unit));
    }
  }
}

TEST_CASE("nvfp4 matrices hold the reference's values, whatever their scales") {
  const std::vector<std::vector<WeightSlice>> plan{{{.key = 1, .rows = 1, .cols = 3000, .scale = 0.5f}},
                                                   {{.key = 2, .rows = 1, .cols = 3000, .scale = 0x1p-4f}}};
  const QuantizedMatrices stored = quantized(plan, DType::nvfp4);
  for (std::size_t m = 0; m < plan.size(); ++m) {
    const WeightSlice& slice = stored.matrices[m][0];
    const std::uint32_t row = synthetic::row_key(slice.key, 0);
    std::vector<double> unit(3000);
    for (std::uint32_t begin = 0; begin < 3000; begin += 16) {
      const std::uint32_t end = std::min(3000u, begin + 16);
      float largest = 0.0f;
      for (std::uint32_t i = begin; i < end; ++i)
        largest = std::max(largest, std::fabs(slice.scale * synthetic::unit_value(row, i)));
      const FP8 scale = nvfp4_scale(largest);
      for (std::uint32_t i = begin; i < end; ++i) {
        const float held = e2m1_to_float(to_nvfp4(slice.scale * synthetic::unit_value(row, i), scale)) *
                           to_float(scale) * stored.scale;
        unit[i] = 1.0;
        CHECK(reference::multiply(plan[m][0], DType::nvfp4, unit)[0] == static_cast<double>(held));
        unit[i] = 0.0;
      }
    }
  }
}

TEST_CASE("nvfp4 weights are cut along their inputs in whole blocks only") {
  const ModelSpec gqa = load_model("tiny-gqa");  // FFN 512
  CHECK(why_not_cut(gqa, {.kvp = 2, .tpf = 2}, DType::nvfp4) == "");
  CHECK(why_not_cut(gqa, {.kvp = 32, .tpf = 32}, DType::nvfp4) == "");
  CHECK_THAT(why_not_cut(gqa, {.kvp = 3, .tpf = 3}, DType::nvfp4),
             Catch::Contains("512") && Catch::Contains("16"));
  CHECK_THAT(why_not_cut(gqa, {.kvp = 64, .tpf = 64}, DType::nvfp4), Catch::Contains("64 parts"));
  CHECK(why_not_cut(gqa, {.kvp = 3, .tpf = 3}, DType::fp8) == "");
  const ModelSpec mla = load_model("tiny-mla");  // FFN 512, 16 experts of 128, shared one of 128
  CHECK(why_not_cut(mla, {.kvp = 8, .tpf = 1, .ep = 8}, DType::nvfp4) == "");
  CHECK_THAT(why_not_cut(mla, {.kvp = 16, .tpf = 1, .ep = 16}, DType::nvfp4), Catch::Contains("128"));
}

TEST_CASE("dimensions of DeepSeek-R1's attention") {
  const ModelSpec model = load_model("deepseek-r1");
  const auto dims = [&](Tensor tensor) {
    const WeightSlice w = whole_tensor(model, 1, tensor, 5);
    return std::pair{w.rows, w.cols};
  };
  CHECK(dims(Tensor::q_a) == std::pair<std::int64_t, std::int64_t>{1536, 7168});
  CHECK(dims(Tensor::q_b) == std::pair<std::int64_t, std::int64_t>{128 * 192, 1536});
  CHECK(dims(Tensor::kv_a) == std::pair<std::int64_t, std::int64_t>{576, 7168});
  CHECK(dims(Tensor::w_uk) == std::pair<std::int64_t, std::int64_t>{512, 128});
  CHECK(dims(Tensor::w_uv) == std::pair<std::int64_t, std::int64_t>{128, 512});
  CHECK(dims(Tensor::o) == std::pair<std::int64_t, std::int64_t>{7168, 128 * 128});
  CHECK(dims(Tensor::expert_down) == std::pair<std::int64_t, std::int64_t>{7168, 2048});
  CHECK(gain_values(model, 1, Tensor::q_a_norm).size() == 1536);
  CHECK(gain_values(model, 1, Tensor::kv_a_norm).size() == 512);
  CHECK_THROWS(whole_tensor(model, 1, Tensor::q_a_norm));
  CHECK_THROWS(gain_values(model, 1, Tensor::q_a));
}

TEST_CASE("gains lie around 1, biases around 0, first tokens in the vocabulary") {
  const ModelSpec model = load_model("tiny-mla");
  double sum = 0;
  for (const BF16 g : gain_values(model, 1, Tensor::input_norm)) {
    CHECK((to_float(g) >= 0.75f && to_float(g) <= 1.25f));
    sum += static_cast<double>(to_float(g));
  }
  // Deviation of the mean of 256 values that are uniform on 1 +- 1/4: 0.25 / sqrt(3 * 256) = 0.009;
  // five of it.
  CHECK(sum / 256 == Approx(1.0).margin(0.045));
  for (const float b : wide_values(model, 1, Tensor::router_bias, 2)) CHECK(std::fabs(b) <= 0.05f);
  std::set<std::int32_t> tokens;
  for (std::int64_t request = 0; request < 100; ++request) {
    const std::int32_t token = first_token(model, 1, request);
    CHECK((token >= 0 && token < model.vocab));
    tokens.insert(token);
  }
  CHECK(tokens.size() > 80);  // of 1000: 95 expected
}
