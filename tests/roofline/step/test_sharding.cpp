#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/step/sharding.hpp"

using namespace helix;
using Catch::Matchers::Contains;

namespace {

/// 12 query heads, 4 KV heads, dense FFN of 512.
const ModelSpec& gqa() {
  static const ModelSpec model = load_model("tiny-gqa");
  return model;
}

/// 8 query heads over one latent, a dense FFN of 512 in layer 0, 16 experts of 128 and a shared one.
const ModelSpec& mla() {
  static const ModelSpec model = load_model("tiny-mla");
  return model;
}

constexpr DecodeShape shape{.context = 1000, .batch = 8};

bool legal(const ModelSpec& model, Strategy strategy, const Sharding& sharding,
           const DecodeShape& s = shape) {
  const auto reason = why_illegal(model, strategy, sharding, s);
  if (reason) UNSCOPED_INFO(*reason);
  return !reason;
}

std::string reason(const ModelSpec& model, Strategy strategy, const Sharding& sharding,
                   const DecodeShape& s = shape) {
  return why_illegal(model, strategy, sharding, s).value_or("legal");
}

}  // namespace

TEST_CASE("strategies are parsed by their own names") {
  for (Strategy s : {Strategy::helix, Strategy::tp, Strategy::tp_pp, Strategy::medha, Strategy::dp_ep}) {
    CHECK(parse_strategy(name(s)) == s);
  }
  CHECK(name(Strategy::tp_pp) == "tp+pp");
  CHECK_THROWS_AS(parse_strategy("pp"), UsageError);
  CHECK_THROWS_WITH(parse_strategy("pp"), Contains("helix, tp, tp+pp, medha, dp+ep"));
}

TEST_CASE("one rank is legal under every strategy that may have one") {
  CHECK(legal(gqa(), Strategy::helix, {}));
  CHECK(legal(gqa(), Strategy::tp, {}));
  CHECK(legal(mla(), Strategy::dp_ep, {}));
  CHECK_THAT(reason(gqa(), Strategy::tp_pp, {}), Contains("PP >= 2"));
  CHECK_THAT(reason(gqa(), Strategy::medha, {}), Contains("KVP >= 2"));
}

TEST_CASE("helix: both phases fill the same ranks") {
  CHECK(legal(gqa(), Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 4}));
  CHECK(legal(gqa(), Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 4, .pp = 3}));
  CHECK(legal(gqa(), Strategy::helix, {.kvp = 2, .tpa = 1, .tpf = 4, .dp = 2}));
  CHECK(legal(mla(), Strategy::helix, {.kvp = 4, .tpf = 2, .ep = 2}));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 2}),
             Contains("DP x KVP x TPA = TPF x EP") && Contains("kvp=2") && Contains("tpf=2"));
}

TEST_CASE("helix: TPA divides the KV heads, TPA x KVP the query heads") {
  CHECK_THAT(reason(gqa(), Strategy::helix, {.tpa = 12, .tpf = 12}),
             Contains("TPA <= K") && Contains("tpa=12") && Contains("4 KV heads"));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.tpa = 3, .tpf = 3}), Contains("divide K") && Contains("tpa=3"));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.kvp = 8, .tpf = 8}),
             Contains("divide Q") && Contains("kvp=8") && Contains("12 query heads"));
  CHECK_THAT(reason(mla(), Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 4}), Contains("MLA latent"));
}

TEST_CASE("tp: KV heads are cut or duplicated, a latent is held by every rank") {
  CHECK(legal(gqa(), Strategy::tp, {.tpa = 2, .tpf = 2}));
  CHECK(legal(gqa(), Strategy::tp, {.tpa = 4, .tpf = 4}));
  CHECK(legal(mla(), Strategy::tp, {.tpa = 8, .tpf = 8}));
  CHECK(legal(mla(), Strategy::tp, {.tpa = 8, .tpf = 2, .ep = 4}));
  const ModelSpec llama = load_model("llama-3.1-8b");  // 32 query heads, 8 KV heads
  CHECK(legal(llama, Strategy::tp, {.tpa = 32, .tpf = 32}));
  CHECK_THAT(reason(llama, Strategy::tp, {.tpa = 64, .tpf = 64}), Contains("divide Q") && Contains("tpa=64"));
  CHECK_THAT(reason(gqa(), Strategy::tp, {.tpa = 6, .tpf = 6}), Contains("tpa=6") && Contains("4 KV heads"));
  CHECK_THAT(reason(gqa(), Strategy::tp, {.kvp = 2, .tpf = 2}), Contains("KVP = DP = PP = 1"));
  CHECK_THAT(reason(gqa(), Strategy::tp, {.tpf = 2, .dp = 2}), Contains("dp=2"));
}

TEST_CASE("tp+pp: two stages or more, none without a layer") {
  CHECK(legal(gqa(), Strategy::tp_pp, {.tpa = 2, .tpf = 2, .pp = 3}));
  CHECK_THAT(reason(gqa(), Strategy::tp_pp, {.pp = 4}), Contains("pp=4") && Contains("3 layers"));
  CHECK_THAT(reason(gqa(), Strategy::tp, {.pp = 2}), Contains("PP = 1"));
}

TEST_CASE("medha: the FFN runs on the TPA ranks only") {
  CHECK(legal(gqa(), Strategy::medha, {.kvp = 3, .tpa = 2, .tpf = 2}));
  CHECK(legal(mla(), Strategy::medha, {.kvp = 4}));
  CHECK_THAT(reason(gqa(), Strategy::medha, {.kvp = 2, .tpa = 2, .tpf = 4}), Contains("TPF x EP = TPA"));
  CHECK_THAT(reason(mla(), Strategy::medha, {.kvp = 2, .tpa = 2, .tpf = 2}), Contains("TPA <= K"));
}

TEST_CASE("dp+ep: whole requests, whole experts") {
  CHECK(legal(mla(), Strategy::dp_ep, {.ep = 8, .dp = 8}));
  CHECK_THAT(reason(mla(), Strategy::dp_ep, {.ep = 4, .dp = 8}), Contains("EP = DP"));
  CHECK_THAT(reason(mla(), Strategy::dp_ep, {.kvp = 2, .ep = 8, .dp = 4}),
             Contains("KVP = TPA = PP = TPF = 1"));
  CHECK_THAT(reason(gqa(), Strategy::dp_ep, {.ep = 2, .dp = 2}), Contains("MoE") && Contains("tiny-gqa"));
  CHECK_THAT(reason(mla(), Strategy::dp_ep, {.ep = 16, .dp = 16}), Contains("batch=8") && Contains("dp=16"));
}

TEST_CASE("the FFN's widths divide what they cut") {
  CHECK_THAT(reason(gqa(), Strategy::helix, {.kvp = 2, .ep = 2}), Contains("EP > 1 needs a MoE model"));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.kvp = 3, .tpf = 3}), Contains("dense FFN") && Contains("512"));

  ModelSpec moe = mla();
  moe.moe.experts = 6;
  CHECK_THAT(reason(moe, Strategy::helix, {.kvp = 4, .ep = 4}), Contains("ep=4") && Contains("6 experts"));
  moe = mla();
  moe.moe.expert_ffn = 130;
  CHECK_THAT(reason(moe, Strategy::helix, {.kvp = 4, .tpf = 4}), Contains("expert FFN") && Contains("130"));
  moe = mla();
  moe.moe.shared_ffn = 126;
  CHECK_THAT(reason(moe, Strategy::helix, {.kvp = 4, .ep = 4}), Contains("shared") && Contains("126"));
  moe = mla();
  moe.ffn = 510;
  CHECK_THAT(reason(moe, Strategy::helix, {.kvp = 4, .ep = 4}), Contains("dense FFN") && Contains("510"));
  moe.moe.first_dense_layers = 0;  // nothing is left to cut
  CHECK(legal(moe, Strategy::helix, {.kvp = 4, .ep = 4}));
}

TEST_CASE("shapes have limits, and each micro-batch a request") {
  const auto with = [](auto change) {
    DecodeShape s = shape;
    change(s);
    return reason(gqa(), Strategy::helix, {.kvp = 2, .tpf = 4, .dp = 2}, s);
  };
  CHECK(with([](DecodeShape& s) { s.hop_b = 4; }) == "legal");
  CHECK(with([](DecodeShape& s) { s.batch = 3; }) == "legal");  // groups of 2 and 1 requests
  CHECK(with([](DecodeShape& s) { s.context = 1; }) == "legal");
  CHECK_THAT(with([](DecodeShape& s) { s.hop_b = 5; }), Contains("hop_b=5") && Contains("4 requests"));
  CHECK_THAT(with([](DecodeShape& s) { s.batch = 3, s.hop_b = 2; }), Contains("hop_b=2"));
  CHECK_THAT(with([](DecodeShape& s) { s.hop_b = 0; }), Contains("hop_b=0"));
  CHECK_THAT(with([](DecodeShape& s) { s.context = -1; }), Contains("context=-1"));
  CHECK_THAT(with([](DecodeShape& s) { s.context = std::int64_t{1} << 62; }), Contains("context="));
  CHECK_THAT(with([](DecodeShape& s) { s.batch = 0; }), Contains("batch=0"));
  CHECK_THAT(with([](DecodeShape& s) { s.batch = 1; }), Contains("batch=1") && Contains("dp=2"));
  CHECK_THAT(with([](DecodeShape& s) { s.tokens_per_block = 0; }), Contains("tokens_per_block=0"));
}

TEST_CASE("widths are positive, and their product does not overflow") {
  CHECK_THAT(reason(gqa(), Strategy::helix, {.kvp = 0}), Contains("kvp=0"));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.tpf = -1}), Contains("tpf=-1"));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.pp = 2147483647}), Contains("pp=2147483647"));
  CHECK_THAT(reason(gqa(), Strategy::helix, {.kvp = 65536, .tpa = 65536}), Contains("ranks"));
}

TEST_CASE("the published configurations are legal") {
  const DecodeShape million{.context = 1'000'000, .batch = 64, .hop_b = 8};
  const ModelSpec llama = load_model("llama-3.1-405b"), r1 = load_model("deepseek-r1");
  CHECK(legal(llama, Strategy::helix, {.kvp = 8, .tpa = 8, .tpf = 64}, million));
  CHECK(legal(r1, Strategy::helix, {.kvp = 64, .tpf = 4, .ep = 16}, million));
  CHECK(legal(r1, Strategy::helix, {.kvp = 32, .tpf = 1, .ep = 64, .dp = 2}, million));
  CHECK(legal(r1, Strategy::dp_ep, {.ep = 64, .dp = 64}, {.context = 1'000'000, .batch = 64}));
  CHECK(legal(r1, Strategy::medha, {.kvp = 64}, {.context = 1'000'000, .batch = 64}));
}

TEST_CASE("even_split covers the range in order, low parts larger by at most one") {
  CHECK(even_split(10, 4, 0) == Range{0, 3});
  CHECK(even_split(10, 4, 3) == Range{8, 10});
  for (std::int64_t n : {0, 1, 7, 8, 1000}) {
    for (int parts : {1, 2, 3, 8, 64}) {
      CAPTURE(n, parts);
      std::int64_t at = 0, before = n;
      for (int i = 0; i < parts; ++i) {
        const Range part = even_split(n, parts, i);
        REQUIRE(part.begin == at);
        REQUIRE(part.size() <= before);
        REQUIRE((part.size() == n / parts || part.size() == (n + parts - 1) / parts));
        at = part.end;
        before = part.size();
      }
      REQUIRE(at == n);
    }
  }
}

TEST_CASE("rank coordinates number both grids without gaps") {
  const Sharding s{.kvp = 3, .tpa = 2, .tpf = 4, .ep = 3, .pp = 2, .dp = 2};
  for (int rank = 0; rank < s.ranks(); ++rank) {
    CAPTURE(rank);
    const RankCoords at = rank_coords(s, rank);
    const int in_stage = rank - at.pp * s.stage_ranks();
    CHECK(at.tpa + s.tpa * (at.kvp + s.kvp * at.dp) == in_stage);
    CHECK(at.tpf + s.tpf * at.ep == in_stage);
    CHECK((at.tpa < s.tpa && at.kvp < s.kvp && at.dp < s.dp));
    CHECK((at.tpf < s.tpf && at.ep < s.ep && at.pp < s.pp));
  }
}

TEST_CASE("under medha the coordinates mark the ranks that idle in the FFN") {
  const Sharding s{.kvp = 3, .tpa = 2, .tpf = 2};
  for (int rank = 0; rank < s.ranks(); ++rank) CHECK((rank_coords(s, rank).ep >= s.ep) == (rank >= 2));
}

TEST_CASE("micro-batches and DP groups cut the batch, each request attended by one group") {
  for (const int pp : {1, 2, 3, 4}) {
    for (const int dp : {1, 2, 3}) {
      const Sharding s{.pp = pp, .dp = dp};
      for (const std::int64_t batch : {1, 2, 5, 12, 13}) {
        std::vector<int> attended(static_cast<std::size_t>(batch));
        for (int group = 0; group < dp; ++group) {
          const std::vector<MicroBatch> list = micro_batches(s, batch, group);
          REQUIRE(std::ssize(list) == std::min<std::int64_t>(pp, batch));
          std::int64_t cached = 0, next = 0;
          for (const MicroBatch& m : list) {
            CHECK(m.requests.begin == next);
            CHECK(m.requests.size() > 0);
            CHECK(m.requests.size() <= list.front().requests.size());
            CHECK(m.attended.size() <= list.front().attended.size());
            CHECK(m.cached == cached);
            for (std::int64_t r = m.attended.begin; r < m.attended.end; ++r)
              ++attended[static_cast<std::size_t>(m.requests.begin + r)];
            cached += m.attended.size();
            next = m.requests.end;
          }
          CHECK(next == batch);
        }
        CHECK(attended == std::vector<int>(attended.size(), 1));
      }
    }
  }
}

TEST_CASE("owned heads cut all query heads over KVP and TPA, within the heads attended") {
  for (const Sharding& s : {Sharding{}, Sharding{.kvp = 3, .tpa = 4}, Sharding{.kvp = 6, .tpa = 2, .dp = 2},
                            Sharding{.tpa = 12}}) {
    std::vector<int> owners(12, 0);
    for (int rank = 0; rank < s.stage_ranks(); ++rank) {
      const RankCoords at = rank_coords(s, rank);
      const Range attended = query_heads(gqa(), s, at), owned = owned_heads(gqa(), s, at);
      REQUIRE((owned.begin >= attended.begin && owned.end <= attended.end));
      REQUIRE(owned.size() == 12 / (s.kvp * s.tpa));
      for (auto head = owned.begin; head < owned.end; ++head) ++owners[static_cast<std::size_t>(head)];
    }
    CHECK(owners == std::vector<int>(12, s.dp));
  }
}

TEST_CASE("a rank caches exactly the KV heads that its query heads read") {
  const ModelSpec llama = load_model("llama-3.1-8b");
  const std::int64_t group = 4;  // 32 query heads, 8 KV heads
  for (int tpa : {1, 2, 4, 8, 16, 32}) {
    const Sharding s{.tpa = tpa, .tpf = tpa};
    for (int rank = 0; rank < tpa; ++rank) {
      CAPTURE(tpa, rank);
      const RankCoords at = rank_coords(s, rank);
      const Range q = query_heads(llama, s, at), kv = cached_kv_heads(llama, s, at);
      CHECK(kv == Range{q.begin / group, (q.end - 1) / group + 1});
    }
  }
  const Sharding s{.tpa = 8, .tpf = 8};
  for (int rank = 0; rank < 8; ++rank) CHECK(cached_kv_heads(mla(), s, rank_coords(s, rank)) == Range{0, 1});
}

TEST_CASE("the history is cut into contiguous runs of whole blocks") {
  CHECK(history_tokens(100, 32, 2, 0) == Range{0, 64});
  CHECK(history_tokens(100, 32, 2, 1) == Range{64, 100});
  CHECK(history_tokens(33, 32, 4, 1) == Range{32, 33});
  CHECK(history_tokens(33, 32, 4, 2).size() == 0);
  for (std::int64_t context : {std::int64_t{1}, std::int64_t{31}, std::int64_t{32}, std::int64_t{33},
                               std::int64_t{1000}, std::int64_t{1} << 20, (std::int64_t{1} << 40) - 1}) {
    for (int block : {1, 16, 32, 1000, 2147483647}) {
      for (int kvp : {1, 2, 3, 8, 64}) {
        CAPTURE(context, block, kvp);
        std::int64_t at = 0;
        std::int64_t blocks_before = context;
        for (int rank = 0; rank < kvp; ++rank) {
          const Range run = history_tokens(context, block, kvp, rank);
          REQUIRE(run.begin == at);
          REQUIRE(run.end >= run.begin);
          REQUIRE((run.end % block == 0 || run.end == context));
          const std::int64_t blocks = (run.size() + block - 1) / block;
          REQUIRE(blocks <= blocks_before);
          blocks_before = blocks;
          at = run.end;
        }
        REQUIRE(at == context);
        REQUIRE(history_tokens(context, block, kvp, 0).size() <= (context / block / kvp + 1) * block);
      }
    }
  }
}

TEST_CASE("new tokens go round the KVP ranks, a block at a time") {
  CHECK(append_owner(0, 32, 4) == 0);
  CHECK(append_owner(31, 32, 4) == 0);
  CHECK(append_owner(32, 32, 4) == 1);
  CHECK(append_owner(128, 32, 4) == 0);
  for (int block : {1, 5, 32}) {
    for (int kvp : {1, 2, 3, 4}) {
      std::vector<std::int64_t> appended(static_cast<std::size_t>(kvp), 0);
      for (std::int64_t step = 0; step < 300; ++step) {
        CAPTURE(block, kvp, step);
        for (int rank = 0; rank < kvp; ++rank) {
          REQUIRE(appended_tokens(step, block, kvp, rank) == appended[static_cast<std::size_t>(rank)]);
        }
        const int owner = append_owner(step, block, kvp);
        REQUIRE((owner >= 0 && owner < kvp));
        ++appended[static_cast<std::size_t>(owner)];
      }
    }
  }
}
