// Eagle-3 heads: what a step with drafts reads, holds and takes, by the sizes of their config.json.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <iterator>

#include "roofline/base/arithmetic.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/step/draft_ops.hpp"
#include "roofline/step/memory.hpp"
#include "tests/draft_heads.hpp"

using namespace helix;

namespace {

constexpr double bf16 = 2;

/// Weights of products, in all ops together.
double product_weights(const std::vector<Op>& ops) {
  double weights = 0;
  for (const Op& op : ops) {
    if (const auto* product = std::get_if<GemmShape>(&op.shape))
      weights += real(product->n * product->k * product->matrices);
  }
  return weights;
}

/// Rows, tokens chosen among and executions of each product of this name in a step.
std::vector<std::array<double, 3>> products(const std::vector<Op>& step, std::string_view name) {
  std::vector<std::array<double, 3>> found;
  for (const Op& op : step) {
    if (op.name != name) continue;
    const auto& product = std::get<GemmShape>(op.shape);
    found.push_back({real(product.m), real(product.n), op.count});
  }
  return found;
}
using Products = std::vector<std::array<double, 3>>;

DecodeShape checking(int drafts) {
  return {.context = 65536, .batch = 8, .draft_tokens = drafts};
}

const Sharding four{.kvp = 4, .tpf = 4};

}  // namespace

TEST_CASE("a head's first run reads all weights of its checkpoint") {
  // fc [H, 3H], q, k and v of 2H inputs, o, an FFN and a head of 32000 tokens: 0.85 GB in 16 bits for Llama-3.1-8B.
  const auto [model, weights] =
      GENERATE(std::pair{test::with_head("llama-3.1-8b", test::llama_8b_head()), 424'673'280.0},
               std::pair{test::with_head("llama-3.1-70b", test::llama_70b_head()), 1'402'994'688.0});
  CAPTURE(model.name);
  const Sharding alone;
  std::vector<Op> run;
  const auto [sharding, shape] = draft_layout({model, alone, checking(2)});
  for (const std::vector<Op>& ops : {draft_input_ops({model, sharding, shape}),
                                     layer_ops({drafter(model), sharding, shape}, draft_layer(model)),
                                     draft_head_ops({model, sharding, shape})})
    std::ranges::copy(ops, std::back_inserter(run));
  CHECK(product_weights(run) == weights);

  // Held as the checkpoint has them, whatever the model's are.
  for (const DType dtype : {DType::bf16, DType::nvfp4}) {
    DecodeShape drafting_two = checking(2), plain = checking(0);
    drafting_two.weight_dtype = plain.weight_dtype = dtype;
    const MemoryModel with = memory_model({model, alone, drafting_two}),
                      without = memory_model({model, alone, plain});
    CHECK(with.weights - without.weights == Approx(weights * bf16));
    CHECK(with.kv_per_request - without.kv_per_request == Approx(65536 * (8 * 2 * 128) * bf16));
  }
}

TEST_CASE("a head runs once for each drafted token, and fuses three layers of the model the first time") {
  const ModelSpec model = test::with_head("llama-3.1-70b", test::llama_70b_head());
  const auto step = decode_ops({model, four, checking(3)});
  CHECK(products(step, "draft fusion") == Products{{4 * 8, 8192, 1}});
  CHECK(products(step, "LM head") == Products{{4 * 8, 128256 / 4, 1}, {8, 32000 / 4, 1}, {8, 32000 / 4, 2}});
  const auto attentions = std::ranges::count(step, std::string_view("attention"), &Op::name);
  CHECK(attentions == 3);  // of the model's layers, and of two shapes of runs
  CHECK(products(decode_ops({model, four, checking(0)}), "draft fusion").empty());
}

TEST_CASE(
    "a head without tokens of its own shares the model's LM head, and one of another width embeds by "
    "itself") {
  nlohmann::json config = test::llama_70b_head();
  const Sharding alone;
  const auto held = [&](const nlohmann::json& head) {
    return memory_model({test::with_head("llama-3.1-70b", head), alone, checking(1)}).weights;
  };
  const double own = held(config);
  config.erase("draft_vocab_size");
  CHECK(own - held(config) == Approx(32000.0 * 8192 * bf16));
  nlohmann::json narrow = test::llama_8b_head();
  narrow["target_hidden_size"] = 8192;
  // As its like for a model of 4096, but for fc's inputs and the table.
  const double plain = memory_model({load_model("llama-3.1-70b"), alone, checking(1)}).weights;
  CHECK(held(narrow) - plain ==
        Approx((424'673'280.0 + 3.0 * 4096 * (8192 - 4096) + 128256.0 * 4096) * bf16));
}

TEST_CASE("a head of KV heads drafts beside a latent cache, over all KVP ranks or locally") {
  const ModelSpec model = test::with_head("deepseek-r1", test::deepseek_head());
  DecodeShape shape = checking(2);
  const auto heads = [&] {
    const auto [sharding, run] = draft_layout({model, four, shape});
    for (const Op& op : attention_ops({drafter(model), sharding, run}, draft_layer(model))) {
      const auto* attention = std::get_if<AttentionShape>(&op.shape);
      if (attention) return std::array{attention->q_heads, attention->kv_heads, attention->tokens};
    }
    return std::array<std::int64_t, 3>{};
  };
  CHECK(heads() == std::array<std::int64_t, 3>{3 * 64, 8, 16384});
  const SystemSpec system = load_system("gb300");
  const Prediction sharded = predict({model, four, shape}, system);
  shape.draft_kv = DraftKv::local;
  CHECK(heads() == std::array<std::int64_t, 3>{3 * 16, 2, 16384});
  const Prediction local = predict({model, four, shape}, system);
  CHECK(local.kv_held_bytes_per_rank < sharded.kv_held_bytes_per_rank);
  CHECK(local.model_ttl_us < sharded.model_ttl_us);
  ModelSpec without = load_model("deepseek-r1");
  without.draft_layers = 0;
  CHECK(local.model_ttl_us > predict({without, four, shape}, system).model_ttl_us);
}

TEST_CASE("a head that a sharding does not divide is illegal, by its name") {
  const auto reason = [](const nlohmann::json& changes, DraftKv draft_kv = DraftKv::sharded) {
    nlohmann::json config = test::llama_70b_head();
    config.merge_patch(changes);
    const ModelSpec model = test::with_head("llama-3.1-70b", config);
    CHECK(why_illegal(model, Strategy::helix, four, checking(0)) == std::nullopt);
    DecodeShape shape = checking(1);
    shape.draft_kv = draft_kv;
    return why_illegal(model, Strategy::helix, four, shape);
  };
  CHECK(reason(nlohmann::json::object()) == std::nullopt);
  CHECK(reason({{"intermediate_size", 28673}}) ==
        "draft head head: TPF x EP must divide the FFN: tpf=4, ep=1, width 28673");
  CHECK(reason({{"num_attention_heads", 66}, {"num_key_value_heads", 2}}) ==
        "draft head head: TPA x KVP must divide Q: tpa=1, kvp=4, 66 query heads");
  CHECK(reason({{"num_attention_heads", 66}, {"num_key_value_heads", 2}}, DraftKv::local) ==
        "draft head head: draft_kv=local: TPA x KVP must divide Q: tpa=1, kvp=4, 66 query heads");
}
