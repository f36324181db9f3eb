#include <catch2/catch.hpp>

#include <string_view>
#include <tuple>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/memory.hpp"

using namespace helix;

namespace {

using Queries = CacheExchange::Queries;
using Merge = CacheExchange::Merge;
using Projection = CacheExchange::Projection;

const Op* op_or_null(const std::vector<Op>& ops, std::string_view name) {
  for (const Op& op : ops) {
    if (op.name == name) return &op;
  }
  return nullptr;
}

const Sharding dcp8{.kvp = 8, .tpf = 8};

std::vector<Op> attention(CacheExchange exchange) {
  const DecodeShape shape{.context = 1 << 16, .batch = 4, .kv_dtype = DType::fp8, .exchange = exchange};
  return attention_ops({load_model("deepseek-r1"), dcp8, shape}, {});
}

}  // namespace

TEST_CASE("Gathered queries are computed once among the ranks that share a cache") {
  const auto replicated = attention({.queries = Queries::replicated});
  const auto gathered = attention({.queries = Queries::gathered});
  for (const char* op : {"q_b projection", "W_UK"}) {
    CHECK(op_or_null(gathered, op)->bytes.weights * 8 == op_or_null(replicated, op)->bytes.weights);
  }
  CHECK(op_or_null(gathered, "kv_a projection")->bytes.weights ==
        op_or_null(replicated, "kv_a projection")->bytes.weights);
  CHECK(op_or_null(gathered, "attention")->flops == op_or_null(replicated, "attention")->flops);
  CHECK(op_or_null(replicated, "query all-gather") == nullptr);
  // Absorbed queries of 128 heads, 4 requests; a ring sends 7/8 of them.
  CHECK(op_or_null(gathered, "query all-gather")->wire_bytes == Approx(4 * 128 * 576 * 2.0 * 7 / 8));
}

TEST_CASE("Partial outputs go to their heads' owners all to all, or are summed by a reduce-scatter") {
  const auto a2a = attention({.merge = Merge::a2a}), ag_rs = attention({.merge = Merge::ag_rs});
  CHECK(op_or_null(ag_rs, "partials all-to-all") == nullptr);
  CHECK(op_or_null(a2a, "partials reduce-scatter") == nullptr);
  CHECK(op_or_null(ag_rs, "partials reduce-scatter")->wire_bytes == Approx(4 * 128 * 512 * 2.0 * 7 / 8));
  CHECK(op_or_null(ag_rs, "log-sum-exp all-gather")->wire_bytes == Approx(4 * 128 * 8 * 4.0 * 7 / 8));
}

TEST_CASE("Values made before the merge are a quarter as wide, and every rank makes those of all heads") {
  for (const auto& [merge, op, bytes] :
       {std::tuple{Merge::a2a, "partials all-to-all", 4 * 128 * (128 * 2.0 + 4) * 7 / 8},
        {Merge::ag_rs, "partials reduce-scatter", 4 * 128 * 128 * 2.0 * 7 / 8}}) {
    const auto after = attention({.merge = merge});
    const auto before = attention({.merge = merge, .projection = Projection::before_merge});
    CHECK(op_or_null(before, op)->wire_bytes == Approx(bytes));
    CHECK(op_or_null(before, op)->wire_bytes < op_or_null(after, op)->wire_bytes / 3.9);
    CHECK(op_or_null(before, "W_UV")->flops == 8 * op_or_null(after, "W_UV")->flops);
    CHECK(op_or_null(before, "W_UV")->bytes.weights == 8 * op_or_null(after, "W_UV")->bytes.weights);
    CHECK(op_or_null(before, "attention")->flops == op_or_null(after, "attention")->flops);
  }
}

TEST_CASE("Ranks that gather queries hold less weights, and as much cache") {
  const ModelSpec m = load_model("deepseek-r1");
  DecodeShape shape{.context = 1 << 16, .batch = 4, .kv_dtype = DType::fp8};
  const HeldBytes replicated = held_by_attention({m, dcp8, shape});
  shape.exchange.queries = Queries::gathered;
  const HeldBytes gathered = held_by_attention({m, dcp8, shape});
  CHECK(gathered.weights < replicated.weights);
  CHECK(gathered.per_request == replicated.per_request);
}

TEST_CASE("DCP cuts heads first; its exchange is read as it is written") {
  const ModelSpec gqa = load_model("llama-3.1-70b");  // 8 KV heads
  const DecodeShape shape{.context = 1 << 16, .batch = 4};
  CHECK(why_illegal(gqa, Strategy::dcp, {.kvp = 2, .tpa = 4, .tpf = 8}, shape)->find("TPA >= K") !=
        std::string::npos);
  CHECK_FALSE(why_illegal(gqa, Strategy::dcp, {.kvp = 2, .tpa = 8, .tpf = 16}, shape));
  CHECK_FALSE(why_illegal(load_model("deepseek-r1"), Strategy::dcp, dcp8, shape));
  for (const auto queries : {Queries::replicated, Queries::gathered}) {
    for (const auto merge : {Merge::a2a, Merge::ag_rs}) {
      for (const auto projection : {Projection::after_merge, Projection::before_merge}) {
        const CacheExchange exchange{.queries = queries, .merge = merge, .projection = projection};
        CHECK(parse_cache_exchange(to_string(exchange)) == exchange);
      }
    }
  }
  CHECK_THROWS_AS(parse_cache_exchange("a2a"), UsageError);
}
