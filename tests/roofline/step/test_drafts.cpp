// Speculative decoding: a step that checks drafted tokens reads weights and cache once for all tokens of a request.
#include <algorithm>
#include <catch2/catch.hpp>

#include "roofline/base/arithmetic.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/step/draft_ops.hpp"
#include "roofline/step/memory.hpp"

using namespace helix;

namespace {

const Op& find_op(const std::vector<Op>& ops, std::string_view name) {
  const auto found = std::ranges::find(ops, name, &Op::name);
  REQUIRE(found != ops.end());
  return *found;
}

DramBytes bytes_of(const std::vector<Op>& ops) {
  DramBytes sum;
  for (const Op& op : ops) {
    sum.weights += op.count * op.bytes.weights;
    sum.kv += op.count * op.bytes.kv;
  }
  return sum;
}

const Sharding grid{.kvp = 4, .tpf = 4};
const DecodeShape plain{.context = 65536, .batch = 8};

DecodeShape with_drafts(int drafts) {
  DecodeShape shape = plain;
  shape.draft_tokens = drafts;
  return shape;
}

}  // namespace

TEST_CASE("drafted tokens are more rows of products and more query heads over the same cache") {
  for (const char* name : {"llama-3.1-70b", "deepseek-v2-lite"}) {
    const ModelSpec model = load_model(name);
    const auto before = attention_ops({model, grid, plain}, {}),
               after = attention_ops({model, grid, with_drafts(3)}, {});
    const Op &one = find_op(before, "attention"), &four = find_op(after, "attention");
    CHECK(four.bytes.kv == one.bytes.kv);
    CHECK(four.flops == 4 * one.flops);
    CHECK(std::get<AttentionShape>(four.shape).q_heads == 4 * std::get<AttentionShape>(one.shape).q_heads);
    CHECK(std::get<AttentionShape>(four.shape).batch == 8);
    CHECK(find_op(after, "output projection").bytes.weights ==
          find_op(before, "output projection").bytes.weights);
    CHECK(std::get<GemmShape>(find_op(after, "output projection").shape).m == 32);
    CHECK(find_op(after, "kv append").bytes.total() == 4 * find_op(before, "kv append").bytes.total());
    // O and LSE of every query: a chunk of 8 requests has no padding.
    CHECK(find_op(after, "partials all-to-all").wire_bytes ==
          4 * find_op(before, "partials all-to-all").wire_bytes);
    const auto head = head_ops({model, grid, with_drafts(3)});
    CHECK(std::get<GemmShape>(find_op(head, "LM head").shape).m == 32);
    CHECK(bytes_of(head).weights == bytes_of(head_ops({model, grid, plain})).weights);
  }
}

TEST_CASE("each drafted token picks the cached tokens that it attends, and an indexer reads its keys once") {
  const ModelSpec model = load_model("deepseek-v3.2");
  const LayerKind kind = model.layer_kind(5);
  const auto before = attention_ops({model, grid, plain}, kind),
             after = attention_ops({model, grid, with_drafts(1)}, kind);
  CHECK(find_op(after, "attention").bytes.kv == 2 * find_op(before, "attention").bytes.kv);
  CHECK(find_op(after, "attention").flops == 2 * find_op(before, "attention").flops);
  CHECK(std::get<AttentionShape>(find_op(after, "attention").shape).batch == 16);
  CHECK(find_op(after, "indexer").bytes.kv == find_op(before, "indexer").bytes.kv);
  CHECK(find_op(after, "indexer").flops == 2 * find_op(before, "indexer").flops);
}

TEST_CASE("a model with a draft layer runs it once for each drafted token, with a cache of its own") {
  ModelSpec model = load_model("deepseek-r1");
  REQUIRE(model.draft_layers == 1);
  const DecodeShape drafting_two = with_drafts(2);
  const auto with = decode_ops({model, grid, drafting_two});
  // First over the three tokens of the last step, then over one token a request.
  std::vector<std::pair<double, std::int64_t>> runs;
  for (const Op& op : with)
    if (op.name == "draft input projection") runs.emplace_back(op.count, std::get<GemmShape>(op.shape).m);
  CHECK(runs == std::vector<std::pair<double, std::int64_t>>{{1, 24}, {1, 8}});
  const double layer_kv = bytes_of(layer_ops({model, grid, plain}, draft_layer(model))).kv;
  CHECK(bytes_of(with).kv == Approx((61 + 2) * layer_kv));
  CHECK(std::ranges::none_of(decode_ops({model, grid, plain}),
                             [](const Op& op) { return op.name.starts_with("draft"); }));

  const MemoryModel held = memory_model({model, grid, drafting_two}),
                    without = memory_model({model, grid, plain});
  CHECK(held.kv_per_request == Approx(without.kv_per_request * 62 / 61));
  CHECK(held.weights > without.weights);

  // On two pipeline stages both micro-batches pass the one that has it.
  const Sharding stages{.kvp = 4, .tpf = 4, .pp = 2};
  for (const Op& op : decode_ops({model, stages, drafting_two}))
    if (op.name == "draft input projection") CHECK(op.count == 2);
  const MemoryModel of_stage = memory_model({model, stages, drafting_two});
  CHECK(of_stage.kv_per_request == Approx(without.kv_per_request * (31 + 1) / 61));

  model.draft_layers = 0;
  CHECK(bytes_of(decode_ops({model, grid, drafting_two})).kv == Approx(61 * layer_kv));
}

TEST_CASE("local drafts attend what a rank holds, with TP over the ranks that share the other caches") {
  ModelSpec gqa = load_model("llama-3.1-70b");
  gqa.draft_layers = 1;
  DecodeShape sharded = with_drafts(2), local = sharded;
  local.draft_kv = DraftKv::local;
  for (const ModelSpec& model : {load_model("deepseek-r1"), gqa}) {
    CAPTURE(model.name);
    const bool mla = model.attention.kind == AttentionKind::mla;
    const auto [before, tokens] = draft_layout({model, grid, sharded});
    const auto [after, own_tokens] = draft_layout({model, grid, local});
    CHECK((before == grid && tokens.context == plain.context));
    CHECK((after == Sharding{.tpa = 4, .tpf = 4} && own_tokens.context == plain.context / 4));

    const auto there = attention_ops({model, before, tokens}, draft_layer(model)),
               here = attention_ops({model, after, own_tokens}, draft_layer(model));
    const auto heads = [](const std::vector<Op>& ops) {
      return std::get<AttentionShape>(find_op(ops, "attention").shape).q_heads;
    };
    CHECK(heads(here) == heads(there) / 4);
    CHECK(
        std::ranges::none_of(here, [](const Op& op) { return op.phase == Phase::a2a || op.wire_bytes > 0; }));
    // A latent is every rank's; of 8 KV heads a rank has two.
    CHECK(bytes_of(here).kv == bytes_of(there).kv / (mla ? 1 : 4));
    const char* const queries = mla ? "q_b projection" : "qkv projection";
    CHECK(find_op(here, queries).bytes.weights == find_op(there, queries).bytes.weights / 4);

    const double layer = memory_model({model, grid, plain}).kv_per_request / real(model.layers);
    CHECK(memory_model({model, grid, sharded}).kv_per_request == Approx(layer * real(model.layers + 1)));
    CHECK(memory_model({model, grid, local}).kv_per_request ==
          Approx(layer * (real(model.layers) + (mla ? 1.0 : 0.25))));
    CHECK(memory_model({model, grid, local}).weights < memory_model({model, grid, sharded}).weights);

    const SystemSpec system = load_system("gb300");
    const Prediction exchanging = predict({model, grid, sharded}, system),
                     alone = predict({model, grid, local}, system);
    CHECK(alone.model_ttl_us < exchanging.model_ttl_us);
    CHECK(alone.comm_bytes_per_rank < exchanging.comm_bytes_per_rank);
    // Two runs over the layer's cache, a quarter of it or all.
    CHECK(alone.kv_bytes_per_rank == Approx(exchanging.kv_bytes_per_rank - (mla ? 0 : 2 * 0.75 * 8 * layer)));
  }
  const Sharding one_each{.tpa = 4, .tpf = 4};
  CHECK(draft_layout({gqa, one_each, local}).sharding == one_each);
}

TEST_CASE("tokens/s are those that are accepted, and unknown without an acceptance") {
  const ModelSpec model = load_model("deepseek-r1");
  const SystemSpec system = load_system("gb200");
  DecodeShape shape = with_drafts(3);
  shape.acceptance = 2.5;
  const Prediction p = predict({model, grid, shape}, system);
  CHECK(p.tokens_per_s_user == Approx(2.5 * 1e6 / p.model_ttl_us));
  CHECK(p.tokens_per_s_gpu == Approx(p.tokens_per_s_user * 8 / 4));
  CHECK(p.trust.extrapolated.shape);
  const Prediction alone = predict({model, grid, plain}, system);
  CHECK(p.model_ttl_us > alone.model_ttl_us);
  CHECK(p.model_ttl_us < 4 * alone.model_ttl_us);
  shape.acceptance = 0;
  CHECK(predict({model, grid, shape}, system).tokens_per_s_user == 0);
}

TEST_CASE("drafts that cannot be are illegal, with the reason") {
  const ModelSpec model = load_model("deepseek-r1");
  DecodeShape shape = with_drafts(64);
  CHECK(why_illegal(model, Strategy::helix, grid, shape) ==
        "draft_tokens=64: drafts are from 0 to 63 tokens");
  shape.draft_tokens = 63;
  shape.batch = (1 << 16) + 1;
  CHECK(why_illegal(model, Strategy::helix, grid, shape) ==
        "batch=65537 with draft_tokens=63: a step has at most 4194304 tokens");
  shape.batch = 8;
  shape.draft_tokens = 2;
  shape.acceptance = 3.5;
  CHECK(why_illegal(model, Strategy::helix, grid, shape) ==
        "acceptance=3.5: a step with 2 drafted tokens yields from 1 to 3");

  ModelSpec gqa = load_model("llama-3.1-70b");
  gqa.draft_layers = 1;
  gqa.attention.q_heads = 96;
  shape = with_drafts(2);
  const Sharding wide{.kvp = 12, .tpf = 12};
  gqa.ffn = 12 * 2048;
  CHECK(why_illegal(gqa, Strategy::helix, wide, shape) == std::nullopt);
  shape.draft_kv = DraftKv::local;
  CHECK(why_illegal(gqa, Strategy::helix, wide, shape) ==
        "draft_kv=local: TPA x KVP and K must divide one another: tpa=1, kvp=12, 8 KV heads");
}
