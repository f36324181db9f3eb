// What the planner counts of today's architectures, against what their makers publish.
#include "roofline/step/model_facts.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "roofline/model/published_models.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/memory.hpp"

using namespace helix;

namespace {

ModelSpec published(std::string_view name) {
  for (const test::PublishedModel& model : test::published_models) {
    if (model.name == name) return parse_model(model.config, std::string(name));
  }
  throw std::invalid_argument(std::string(name));
}

double read_values(const ModelSpec& model, std::int64_t context) {
  return kv_bytes_read(model, DType::bf16, context) / 2;
}

}  // namespace

TEST_CASE("parameters, cache and state of published models") {
  for (const test::PublishedModel& expected : test::published_models) {
    CAPTURE(expected.name, expected.source);
    const ModelSpec model = parse_model(expected.config, std::string(expected.name));
    const ParameterCount count = parameters(model);
    if (expected.total_b > 0) CHECK(count.total / 1e9 == Approx(expected.total_b).epsilon(0.01));
    if (expected.active_b > 0) CHECK(count.active / 1e9 == Approx(expected.active_b).epsilon(0.02));
    CHECK(kv_bytes_per_token(model, DType::bf16) == 2.0 * static_cast<double>(expected.kv_values));
    CHECK(state_bytes_per_request(model) == static_cast<double>(expected.state_bytes));
  }
}

TEST_CASE("a window is all that its layers read and hold") {
  const ModelSpec m = published("gpt-oss-20b");
  constexpr std::int64_t row = 2 * 8 * 64;
  CHECK(read_values(m, 64) == 24 * row * 64);
  CHECK(read_values(m, 1 << 17) == 12 * row * ((1 << 17) + 128));
  CHECK(kv_bytes_held(m, DType::bf16, 1 << 17) == 2.0 * read_values(m, 1 << 17));
  CHECK(read_values(published("Llama-4-Maverick"), 1 << 20) ==
        2.0 * 8 * 128 * (12.0 * (1 << 20) + 36 * 8192));
}

TEST_CASE("an indexer reads a key of every token, and attention what it chooses") {
  const ModelSpec m = published("GLM-5");
  CHECK(read_values(m, 1024) == 78.0 * 1024 * (576 + 128));  // all are chosen
  CHECK(read_values(m, 1 << 17) == 78.0 * (2048 * 576 + (1 << 17) * 128.0));
  CHECK(kv_bytes_held(m, DType::bf16, 1 << 17) == 2 * 78.0 * (1 << 17) * (576 + 128));
}

TEST_CASE("compressed attention holds a window and one entry for many tokens") {
  const ModelSpec m = published("DeepSeek-V4-Flash");
  constexpr double context = 1 << 20;
  const double window = 43 * 512.0 * 128;
  CHECK(kv_bytes_held(m, DType::bf16, 1 << 20) ==
        2 * (window + context * (21 * 640.0 / 4 + 20 * 512.0 / 128)));
  CHECK(read_values(m, 1 << 20) ==
        window + 21 * (512 * 512.0 + context / 4 * 128) + 20 * context / 128 * 512);
}

TEST_CASE("KVP shards what a windowed layer keeps, in whole pages") {
  const ModelSpec m = published("gpt-oss-20b");
  DecodeShape shape{.context = 1 << 17, .batch = 1, .tokens_per_block = 32};
  const auto pages = [&](int kvp) {
    return held_by_attention({m, {.kvp = kvp, .tpf = kvp}, shape}).per_request / (2 * 2 * 8 * 64);
  };
  CHECK(pages(1) == 12 * ((1 << 17) + 128));
  CHECK(pages(2) == 12 * ((1 << 16) + 64));
  CHECK(pages(8) == 12 * ((1 << 14) + 32));  // four pages on eight ranks
  shape.tokens_per_block = 64;
  CHECK(pages(4) == 12 * ((1 << 15) + 64));
}

TEST_CASE("the longest context grows by what windows do not hold") {
  const ModelSpec m = published("gpt-oss-20b");
  const DecodeShape shape{.context = 1 << 17, .batch = 1, .tokens_per_block = 32};
  const MemoryModel memory = memory_model({m, {}, shape});
  const std::int64_t context = memory.max_context(1, memory.bytes(1));
  CHECK(context == 1 << 17);
  const double further = 12.0 * 2 * 2 * 8 * 64 * 32;  // a page more in the full layers
  CHECK(memory.max_context(1, memory.bytes(1) + further) == (1 << 17) + 32);
}

TEST_CASE("a state is cut over all ranks that would share a cache, and costs the same at any context") {
  const ModelSpec m = published("Qwen3-Next-80B-A3B");
  const LayerKind state{.mixer = Mixer::state, .ffn = Ffn::moe};
  const auto bytes = [&](const Sharding& sharding, std::int64_t context) {
    double sum = 0;
    for (const Op& op : attention_ops({m, sharding, {.context = context, .batch = 4}}, state)) {
      CHECK(op.bytes.kv == 0);
      sum += op.bytes.state;
    }
    return sum;
  };
  const double whole = 2 * 4 * (32 * 128 * 128 * 4.0 + 8192 * 3 * 2);  // read and written
  CHECK(bytes({}, 4096) == whole);
  CHECK(bytes({}, 1 << 20) == whole);
  CHECK(bytes({.kvp = 4, .tpa = 2, .tpf = 8}, 4096) == whole / 8);
  CHECK(memory_model({m, {}, {.context = 4096}}).state_per_request == state_bytes_per_request(m));
}

TEST_CASE("layers of one block alone exchange once") {
  const ModelSpec m = published("Nemotron-3-Nano-30B-A3B");
  const Sharding tp{.tpa = 2, .tpf = 2};
  const DecodeShape shape{.context = 4096, .batch = 4};
  for (const LayerGroup& group : m.layer_groups()) {
    CHECK(exchange_ops({m, tp, shape}, group.kind).size() == 1);
    const bool mixes = group.kind.mixer != Mixer::none;
    CHECK(attention_ops({m, tp, shape}, group.kind).empty() == !mixes);
    CHECK(ffn_ops({m, tp, shape}, group.kind).empty() == mixes);
  }
  CHECK(exchange_ops({published("Command-R"), tp, shape}, {}).size() == 1);  // both blocks at once
  CHECK(exchange_ops({published("Qwen2.5-7B"), tp, shape}, {}).size() == 2);
}

TEST_CASE("KVP ranks agree on what an indexer chooses") {
  const ModelSpec m = published("GLM-5");
  const DecodeShape shape{.context = 1 << 17, .batch = 2};
  const std::vector<Op> one = attention_ops({m, {}, shape}, {});
  const std::vector<Op> four = attention_ops({m, {.kvp = 4, .tpf = 4}, shape}, {});
  const auto named = [](std::string_view name) { return [=](const Op& op) { return op.name == name; }; };
  const auto find = [&](const std::vector<Op>& ops, std::string_view name) {
    const auto found = std::ranges::find_if(ops, named(name));
    if (found == ops.end()) throw std::out_of_range(std::string(name));
    return *found;
  };
  const auto picked = [](const Op& op) { return std::get<AttentionShape>(op.shape).picked; };
  CHECK(std::ranges::none_of(one, named("index top-k all-gather")));
  CHECK(std::get<CollectiveShape>(find(four, "index top-k all-gather").shape).payload_bytes ==
        4.0 * 2 * 2048 * 8);
  CHECK(picked(find(one, "attention")) == 2048);
  CHECK(picked(find(four, "attention")) == 512);
  CHECK(std::get<IndexerShape>(find(four, "indexer").shape).keys == 1 << 15);
}
