#include <catch2/catch.hpp>
#include <cmath>
#include <string_view>
#include <vector>

#include "roofline/cost/step_cost.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/expert_load.hpp"

using namespace helix;

namespace {

Sharding helix_split(int kvp, int tpa, int tpf, int ep) {
  return {.kvp = kvp, .tpa = tpa, .tpf = tpf, .ep = ep};
}

const Op& find(const std::vector<Op>& ops, std::string_view name) {
  for (const Op& op : ops) {
    if (op.name == name) return op;
  }
  FAIL("no op " << name);
  return ops.front();
}

double kv_bytes(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  double sum = 0;
  for (const Op& op : decode_ops({model, sharding, shape})) sum += op.count * op.bytes.kv;
  return sum;
}

}  // namespace

TEST_CASE("Bytes of a dense GQA layer are those of its matrices") {
  const ModelSpec m = load_model("llama-3.1-405b");  // H 16384, Q 128, K 8, Hsz 128, F 53248
  const Sharding s = helix_split(8, 8, 64, 1);
  const DecodeShape shape{
      .context = 1 << 20, .batch = 16, .weight_dtype = DType::fp8, .kv_dtype = DType::fp8};
  const auto attention = attention_ops({m, s, shape}, {});
  CHECK(find(attention, "qkv projection").bytes.weights == (16 + 2 * 1) * 128 * 16384);
  CHECK(find(attention, "output projection").bytes.weights == 16384 * 2 * 128);
  CHECK(find(attention, "attention").bytes.kv == 16.0 * 2 * 128 * (1 << 17));
  CHECK(find(attention, "attention").flops == 2.0 * 16 * 16 * 256 * (1 << 17));
  // A chunk: 16 requests x 2 heads x (128 bf16 + one fp32); 8 chunks, of which 7 leave the rank.
  const Op& exchange = find(attention, "partials all-to-all");
  CHECK(std::get<CollectiveShape>(exchange.shape).payload_bytes == 8.0 * 16 * 2 * (256 + 4));
  CHECK(exchange.wire_bytes == 7.0 * 16 * 2 * (256 + 4));
  CHECK(
      std::get<CollectiveShape>(find(exchange_ops({m, s, shape}, {}), "attention all-reduce").shape).group ==
      64);

  const auto ffn = ffn_ops({m, s, shape}, {});
  CHECK(find(ffn, "gate and up").bytes.weights == 2 * 832 * 16384);
  CHECK(find(ffn, "down").bytes.weights == 832 * 16384);
}

TEST_CASE("Bytes of a DeepSeek-R1 MoE layer are those of its matrices") {
  const ModelSpec m = load_model("deepseek-r1");
  const Sharding s = helix_split(8, 1, 2, 4);
  const DecodeShape shape{.context = 4096, .batch = 4, .weight_dtype = DType::fp8, .kv_dtype = DType::bf16};
  const auto attention = attention_ops({m, s, shape}, {});
  CHECK(find(attention, "q_a projection").bytes.weights == 1536 * 7168);
  CHECK(find(attention, "q_b projection").bytes.weights == 128 * 192 * 1536);
  CHECK(find(attention, "kv_a projection").bytes.weights == 576 * 7168);
  CHECK(find(attention, "W_UK").bytes.weights == 128 * 512 * 128);
  CHECK(find(attention, "W_UV").bytes.weights == 16 * 512 * 128);
  CHECK(find(attention, "output projection").bytes.weights == 7168 * 16 * 128);
  CHECK(find(attention, "attention").bytes.kv == 4.0 * 576 * 512 * 2);
  CHECK(find(attention, "partials all-to-all").wire_bytes == 7.0 * 4 * 16 * (512 * 2 + 4));

  const auto ffn = ffn_ops({m, s, shape}, {.ffn = Ffn::moe});
  CHECK(find(ffn, "router").bytes.weights == 256 * 7168 * 2);
  CHECK(find(ffn, "shared down").bytes.weights == 7168 * 256);
  const Op& routed = find(ffn, "routed experts");
  const auto& moe = std::get<MoeShape>(routed.shape);
  CHECK(moe.local_experts == 64);
  CHECK(moe.pairs > 4 * 8 / 4);
  CHECK(moe.active_experts > 64 * (1 - std::pow(248.0 / 256, 4)));  // the mean; the busiest rank has more
  CHECK(moe.active_experts == Approx(routed_load(64, 256, 8, 4, 0).active_experts));
  CHECK(routed.bytes.weights == Approx(moe.active_experts * 3 * 7168 * 1024));
}

TEST_CASE("Twice the context is twice the KV bytes; KVP divides them; TP beyond K does not") {
  const ModelSpec m = load_model("llama-3.1-405b");
  const DecodeShape shape{.context = 1 << 18, .batch = 8};
  DecodeShape twice = shape;
  twice.context *= 2;
  for (const Sharding& s : {helix_split(1, 1, 1, 1), helix_split(4, 8, 32, 1), helix_split(16, 2, 32, 1)}) {
    CHECK(kv_bytes(m, s, twice) == 2 * kv_bytes(m, s, shape));
  }
  CHECK(kv_bytes(m, helix_split(8, 8, 64, 1), shape) * 8 == kv_bytes(m, helix_split(1, 8, 8, 1), shape));
  CHECK(kv_bytes(m, helix_split(1, 64, 64, 1), shape) == kv_bytes(m, helix_split(1, 8, 8, 1), shape));
}

TEST_CASE("A sliding window bounds what its layers read") {
  const ModelSpec m = load_model("gpt-oss-120b");
  const DecodeShape shape{.context = 1 << 17, .batch = 1};
  const auto windowed = attention_ops({m, helix_split(1, 1, 1, 1), shape}, {.attention = 1});
  const auto full = attention_ops({m, helix_split(1, 1, 1, 1), shape}, {});
  CHECK(find(full, "attention").bytes.kv == 1024 * find(windowed, "attention").bytes.kv);
}

TEST_CASE("Data-parallel attention attends its own requests and pipeline stages their micro-batch") {
  const ModelSpec m = load_model("deepseek-r1");
  DecodeShape shape{.context = 4096, .batch = 32};
  const auto dp = attention_ops({m, {.tpf = 1, .ep = 8, .dp = 8}, shape}, {});
  CHECK(std::get<AttentionShape>(find(dp, "attention").shape).batch == 4);
  CHECK(find(dp, "output projection").bytes.weights == 7168.0 * 128 * 128 * 2);
  const Sharding stages{.pp = 4};
  const auto pp = attention_ops({m, stages, shape}, {});
  CHECK(std::get<AttentionShape>(find(pp, "attention").shape).batch == 8);
  // 61 layers on 4 stages: the longest has 16, and each of the 4 micro-batches passes it once per step.
  const double layers = static_cast<double>(m.layers) * layer_repeats(m, stages);
  CHECK(layers == Approx(64));
}

TEST_CASE("HOP-B repeats attention and exchange for every piece, the rest once") {
  const ModelSpec m = load_model("llama-3.1-8b");
  DecodeShape shape{.context = 65536, .batch = 8, .hop_b = 4};
  const auto ops = attention_ops({m, helix_split(4, 1, 4, 1), shape}, {});
  for (const Op& op : ops) {
    const bool overlapped = op.phase == Phase::attn || op.phase == Phase::merge || op.phase == Phase::a2a;
    INFO(op.name);
    CHECK(op.count == (overlapped ? 4 : 1));
  }
  CHECK(std::get<AttentionShape>(find(ops, "attention").shape).batch == 2);
}

TEST_CASE(
    "Ranks with requests of their own send tokens to the experts' ranks and keep the shared expert whole") {
  const ModelSpec m = load_model("deepseek-r1");
  const Sharding s{.tpf = 1, .ep = 8, .dp = 8};
  const DecodeShape shape{.context = 4096, .batch = 32, .weight_dtype = DType::fp8};
  const auto exchange = exchange_ops({m, s, shape}, {.ffn = Ffn::moe});
  const Op& sent = find(exchange, "expert dispatch");
  CHECK(sent.way == Way::sends);
  const auto& dispatch = std::get<CollectiveShape>(sent.shape);
  // 8 draws among 8 ranks touch 8 (1 - (7/8)^8) of them; 4 requests, bf16.
  CHECK(dispatch.payload_bytes == Approx(4 * 8 * (1 - std::pow(7.0 / 8, 8)) * 7168 * 2));
  const auto ffn = ffn_ops({m, s, shape}, {.ffn = Ffn::moe});
  CHECK(find(ffn, "shared down").bytes.weights == 7168 * 2048);
  CHECK(std::get<GemmShape>(find(ffn, "router").shape).m == 4);
  CHECK(std::get<MoeShape>(find(ffn, "routed experts").shape).tokens == 32);
  // The engine gathers all 32 tokens instead, with their experts, and scatters the sums; each system pays for
  // its own way alone.
  const Op& gathered = find(exchange, "token all-gather");
  CHECK(gathered.way == Way::gathers);
  CHECK(std::get<CollectiveShape>(gathered.shape).payload_bytes == 32.0 * 7168 * 2);
  CHECK(std::get<CollectiveShape>(find(exchange, "expert id all-gather").shape).payload_bytes ==
        32.0 * 8 * 4);
  CHECK(find(exchange, "token reduce-scatter").wire_bytes == 32.0 * 7168 * 2 * 7 / 8);
  const StepCost on_gpu = cost_of(exchange, load_system("gb200"));
  CHECK(on_gpu.wire_bytes == 2 * sent.wire_bytes);
  const std::vector<Op> dense_exchange = exchange_ops({m, s, shape}, {});
  const Op& dense = find(dense_exchange, "token all-gather");
  CHECK(dense.phase == Phase::ffn_comm);
  CHECK(dense.way == Way::every);
}

TEST_CASE(
    "The last of equally long stages has the head for every micro-batch; a shorter one has room for it") {
  const ModelSpec m = load_model("llama-3.1-8b");  // 32 layers
  const DecodeShape shape{.context = 4096, .batch = 8};
  CHECK(find(head_ops({m, {.pp = 4}, shape}), "LM head").count == 4);
  CHECK(find(head_ops({m, {.pp = 3}, shape}), "LM head").count == 1);
  CHECK(find(head_ops({m, {.pp = 3}, shape}), "stage hand-over").count == 3);
}
