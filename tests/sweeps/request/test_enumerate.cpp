#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>

#include "sweeps/request/enumerate.hpp"
#include "tests/draft_heads.hpp"
#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

/// A space of small defaults, changed by flags as on a command line.
SweepSpace space_of(std::initializer_list<std::pair<std::string, std::string>> flags) {
  SweepSpace space;
  space.models = {"llama-3.2-1b"};  // 32 query heads, 8 KV heads, dense
  space.ranks = {.kind = Choice::Kind::every, .values = {}};
  for (const auto& [flag, text] : flags) {
    const auto settings = space_settings();
    const auto found = std::ranges::find(settings, flag, &SpaceSetting::name);
    REQUIRE(found != settings.end());
    found->apply(space, text, "--" + flag);
  }
  return space;
}

const SweepDefaults defaults{.max_ranks = 4, .contexts = {1024}, .batches = {2}};

std::vector<SweepPoint> points_of(const SweepSpace& space, std::int64_t world = 4) {
  static std::vector<ModelTable> kept;  // points refer to their model
  kept.push_back(load_models({space}));
  SweepDefaults of_world = defaults;
  of_world.max_ranks = world;
  return enumerate({space}, kept.back(), of_world, world);
}

std::string refusal(const SweepSpace& space, std::int64_t world = 4) {
  return usage_error([&] { points_of(space, world); });
}

/// "helix 2.1>2.1" is KVP 2, TPA 1, TPF 2, EP 1.
std::multiset<std::string> grids(const std::vector<SweepPoint>& points, bool runnable = true) {
  std::multiset<std::string> found;
  for (const SweepPoint& p : points) {
    const Sharding& s = p.config.sharding;
    if (p.skip_reason.empty() != runnable) continue;
    found.insert(std::string(name(p.config.strategy)) + " " + std::to_string(s.kvp) + "." +
                 std::to_string(s.tpa) + ">" + std::to_string(s.tpf) + "." + std::to_string(s.ep) +
                 (s.pp > 1 ? " pp" + std::to_string(s.pp) : "") +
                 (s.dp > 1 ? " dp" + std::to_string(s.dp) : ""));
  }
  return found;
}
using Grids = std::multiset<std::string>;

}  // namespace

TEST_CASE("without any width a block means the whole launch, or as many of its ranks as admit a grid") {
  SweepSpace space = space_of({});
  space.ranks = {};
  for (const SweepPoint& p : points_of(space, 4)) CHECK(p.config.sharding.ranks() == 4);
  CHECK(grids(points_of(space, 1)) == Grids{"tp 1.1>1.1"});
  for (const SweepPoint& p : points_of(space, 3))
    CHECK(p.config.sharding.ranks() == 2);  // 32 heads on 3 ranks: none
}

TEST_CASE("without lists a sweep holds every legal grid of the world, and none twice") {
  const auto points = points_of(space_of({}));
  CHECK(grids(points) ==
        Grids{"tp 1.1>1.1", "tp 1.2>2.1", "tp 1.4>4.1", "helix 2.1>2.1", "helix 2.2>4.1", "helix 4.1>4.1"});
  CHECK(grids(points, false).empty());
}

TEST_CASE("Helix alone includes KVP 1") {
  CHECK(grids(points_of(space_of({{"strategy", "helix"}}), 2)) ==
        Grids{"helix 1.1>1.1", "helix 1.2>2.1", "helix 2.1>2.1"});
}

TEST_CASE("a Helix layout that is a baseline stands under the baseline alone, where that is asked for") {
  CHECK(grids(points_of(space_of({{"kvp", "auto"}}), 2)) ==
        Grids{"tp 1.1>1.1", "tp 1.2>2.1", "helix 2.1>2.1"});
  const auto moe = points_of(space_of({{"model", "deepseek-v2-lite"},
                                       {"strategy", "helix,dp+ep"},
                                       {"ranks", "2"},
                                       {"kvp", "auto"},
                                       {"dp", "auto"}}));
  CHECK(grids(moe) == Grids{"dp+ep 1.1>1.2 dp2", "helix 2.1>1.2"});
  // Of another FFN grid it is no repetition.
  CHECK(
      grids(points_of(space_of({{"model", "tiny-qwen3-moe"}, {"ranks", "2"}, {"kvp", "1"}, {"tpa", "2"}}))) ==
      Grids{"tp 1.2>2.1", "helix 1.2>1.2"});
}

TEST_CASE("listed widths restrict, the rest follows") {
  CHECK(grids(points_of(space_of({{"ranks", "4"}, {"kvp", "2"}}))) == Grids{"tp 1.4>4.1", "helix 2.2>4.1"});
  CHECK(grids(points_of(space_of({{"strategy", "helix"}, {"ranks", "4"}, {"kvp", "auto"}}))) ==
        Grids{"helix 1.4>4.1", "helix 2.2>4.1", "helix 4.1>4.1"});
  CHECK(grids(points_of(space_of({{"strategy", "helix"}, {"kvp", "2"}, {"tpa", "1"}, {"dp", "2"}}))) ==
        Grids{"helix 2.1>4.1 dp2"});
}

TEST_CASE("a mixture of experts is spread over EP by default and over every grid when asked") {
  const SweepSpace base = space_of({{"model", "deepseek-v2-lite"}, {"strategy", "helix"}, {"ranks", "4"}});
  CHECK(grids(points_of(base)) == Grids{"helix 4.1>1.4"});  // MLA: TPA = 1
  SweepSpace every = base;
  every.ep.kind = Choice::Kind::every;
  CHECK(grids(points_of(every)) == Grids{"helix 4.1>1.4", "helix 4.1>2.2", "helix 4.1>4.1"});
}

TEST_CASE("the other strategies are enumerated too") {
  CHECK(grids(points_of(space_of({{"strategy", "tp+pp"}}))) ==
        Grids{"tp+pp 1.1>1.1 pp2", "tp+pp 1.1>1.1 pp3", "tp+pp 1.1>1.1 pp4", "tp+pp 1.2>2.1 pp2"});
  CHECK(grids(points_of(space_of({{"strategy", "medha"}}))) ==
        Grids{"medha 2.1>1.1", "medha 2.2>2.1", "medha 4.1>1.1"});
  const auto dp_ep =
      points_of(space_of({{"strategy", "dp+ep"}, {"model", "deepseek-v2-lite"}, {"ranks", "2"}}));
  CHECK(grids(dp_ep) == Grids{"dp+ep 1.1>1.2 dp2"});
}

TEST_CASE("what was asked for and is illegal is a skipped row with its reason") {
  const auto points = points_of(space_of({{"strategy", "helix,tp"}, {"ranks", "3"}}));
  CHECK(grids(points).empty());
  REQUIRE(points.size() == 2);
  for (const SweepPoint& p : points) CHECK_FALSE(p.skip_reason.empty());

  const auto wide = points_of(space_of({{"strategy", "helix"}, {"kvp", "1"}, {"tpa", "16"}}), 16);
  REQUIRE(wide.size() == 1);
  CHECK_THAT(wide[0].skip_reason, Catch::Contains("TPA"));
}

TEST_CASE("points larger than the world are skipped beside smaller ones, alone they are a usage error") {
  const auto points = points_of(space_of({{"strategy", "tp"}, {"ranks", "2,8"}}), 3);
  REQUIRE(points.size() == 2);
  CHECK(points[0].skip_reason.empty());
  CHECK(points[1].skip_reason == "needs 8 MPI ranks, this launch has 3");
  CHECK_THAT(refusal(space_of({{"ranks", "64"}}), 3),
             Catch::Contains("needs 64 MPI ranks, this launch has 3"));
  CHECK_THAT(refusal(space_of({{"strategy", "helix"}, {"kvp", "64"}}), 3),
             Catch::Contains("needs 64 MPI ranks"));
}

TEST_CASE("lists that would be ignored are refused") {
  CHECK_THAT(refusal(space_of({{"strategy", "tp"}, {"kvp", "2"}})), Catch::Contains("--kvp"));
  CHECK_THAT(refusal(space_of({{"ranks", "2"}, {"kvp", "3"}})), Catch::Contains("--kvp 3"));
  CHECK_THAT(refusal(space_of({{"layers", "17"}})), Catch::Contains("16 layers"));
  CHECK(refusal(space_of({{"strategy", "tp"}, {"kvp", "1"}})).empty());
}

TEST_CASE("absurd products of widths neither overflow nor take long") {
  CHECK_FALSE(
      refusal(space_of({{"strategy", "helix"}, {"kvp", "1048576"}, {"tpa", "1048576"}, {"dp", "1048576"}}))
          .empty());
  CHECK_FALSE(refusal(space_of({{"strategy", "helix"}, {"ranks", "1048576"}})).empty());
}

TEST_CASE("HOP-B belongs to configurations with an all-to-all") {
  const auto points = points_of(space_of({{"ranks", "2"}, {"batch", "8"}, {"hop-b", "off,on,2"}}));
  std::multiset<std::pair<std::string, int>> found;
  for (const SweepPoint& p : points) found.emplace(name(p.config.strategy), p.config.shape.hop_b);
  CHECK(found ==
        std::multiset<std::pair<std::string, int>>{{"helix", 1}, {"helix", 2}, {"helix", 8}, {"tp", 1}});
}

TEST_CASE("ids are unique, stable and blind to how often a point is asked for") {
  const SweepSpace space = space_of({{"context", "1k,2k"},
                                     {"batch", "1,2"},
                                     {"kv-dtype", "bf16,fp8"},
                                     {"hop-b", "1,2"},
                                     {"strategy", "helix,tp,medha,tp+pp"}});
  const auto models = load_models({space});
  const auto once = enumerate({space}, models, defaults, 4);
  CHECK(enumerate({space, space}, models, defaults, 4).size() == once.size());
  std::set<std::string> ids;
  for (const SweepPoint& p : once) ids.insert(configuration_id(p.config));
  CHECK(ids.size() == once.size());

  Configuration config{
      .model = "m", .strategy = Strategy::helix, .sharding = {.kvp = 2, .tpa = 1, .tpf = 2}, .shape = {}};
  config.shape.context = 65536;
  config.shape.batch = 4;
  CHECK(configuration_id(config) == "m/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/blk32");
  config.layers = 6;
  config.shape.hop_b = 4;
  config.sharding.dp = 2;
  CHECK(configuration_id(config) == "m/helix/kvp2.tpa1.tpf2.ep1.dp2/s65536/b4/bf16-bf16/blk32/hop4/l6");
}

TEST_CASE("dcp cuts a TP group's cache; its rows say how the ranks exchange") {
  SweepSpace space = space_of({{"strategy", "dcp"}, {"dcp", "2,4"}, {"ranks", "4"}});
  space.models = {"tiny-mla"};
  const auto points = points_of(space);
  CHECK(grids(points).contains("dcp 4.1>4.1"));
  for (const SweepPoint& p : points) CHECK(p.config.sharding.kvp > 1);
  CHECK(configuration_id(points.front().config).ends_with("/ag_rs+gathered"));

  SweepSpace other =
      space_of({{"strategy", "dcp"}, {"dcp", "4"}, {"dcp-merge", "a2a"}, {"dcp-queries", "replicated"}});
  other.models = {"tiny-mla"};
  CHECK(points_of(other).front().config.shape.exchange == CacheExchange{});
  CHECK(refusal(space_of({{"strategy", "helix"}, {"dcp", "4"}})).find("dcp") != std::string::npos);
  CHECK(refusal(space_of({{"strategy", "dcp"}, {"kvp", "4"}})).find("kvp") != std::string::npos);
  CHECK(usage_error([] { space_of({{"dcp-merge", "ring"}}); }).find("ag_rs") != std::string::npos);
}

TEST_CASE("copies of experts are points of their own, where EP shares them") {
  SweepSpace space =
      space_of({{"strategy", "tp"}, {"tpa", "2"}, {"ep", "1,2"}, {"redundant-experts", "0,2"}});
  space.models = {"tiny-mla"};
  std::multiset<std::string> found;
  for (const SweepPoint& p : points_of(space)) {
    if (p.skip_reason.empty())
      found.insert(fmt::format("{} {}", p.config.sharding.ep, p.config.shape.redundant_experts));
  }
  CHECK(found == std::multiset<std::string>{"1 0", "2 0", "2 2"});
  SweepSpace projected = space_of({{"strategy", "dcp"}, {"dcp", "4"}, {"dcp-project", "before"}});
  projected.models = {"tiny-mla"};
  CHECK(configuration_id(points_of(projected).front().config).ends_with("/ag_rs+gathered+projected"));
}

TEST_CASE("kernels of other makers are points of their own") {
  std::multiset<std::string> endings;
  for (const SweepPoint& p :
       points_of(space_of({{"strategy", "tp"}, {"ranks", "1"}, {"kernels", "own,trtllm-gen,own"}}), 1)) {
    const std::string id = configuration_id(p.config);
    endings.insert(id.substr(id.find("blk32") + 5));
  }
  CHECK(endings == std::multiset<std::string>{"", "/trtllm-gen"});
  CHECK_THAT(usage_error([] {
               space_of({{"kernels", "theirs"}});
             }),
             Catch::Contains("--kernels: no kernels are called 'theirs'; valid: own, trtllm-gen"));
}

TEST_CASE("local drafts are another point where a draft layer meets KVP") {
  const auto endings = [](const char* model, const char* draft_kv) {
    SweepSpace space = space_of({{"kvp", "1,2"}, {"draft-tokens", "0,1"}, {"draft-kv", draft_kv}});
    space.models = {model};
    std::set<std::string> found;
    for (const SweepPoint& p : points_of(space, 2)) {
      const std::string id = configuration_id(p.config);
      found.insert(fmt::format("{}{}", p.config.sharding.kvp, id.substr(id.find("blk32") + 5)));
    }
    return found;
  };
  using Found = std::set<std::string>;
  CHECK(endings("tiny-mtp", "local") == Found{"1", "1/draft1", "2", "2/draft1.local"});
  CHECK(endings("tiny-mtp", "sharded") == Found{"1", "1/draft1", "2", "2/draft1"});
  CHECK(endings("tiny-mla", "local") == Found{"1", "1/draft1", "2", "2/draft1"});
  CHECK_THAT(usage_error([] {
               space_of({{"draft-kv", "here"}});
             }),
             Catch::Contains("--draft-kv 'here'") && Catch::Contains("sharded, local"));
}

TEST_CASE("a draft head makes other points of a model's steps with drafts") {
  const ScratchFolder scratch;
  SweepSpace space = space_of({{"ranks", "1"}, {"draft-tokens", "0,2"}});
  space.models = {"llama-3.1-8b"};
  space.draft_model = scratch.write("eagle3/config.json", test::llama_8b_head().dump()).parent_path();
  std::set<std::string> heads, endings;
  for (const SweepPoint& p : points_of(space, 1)) {
    const std::string id = configuration_id(p.config);
    heads.insert(p.config.draft_head);
    endings.insert(id.substr(id.find("blk32") + 5));
  }
  CHECK(heads == std::set<std::string>{"", "eagle3"});
  CHECK(endings == std::set<std::string>{"", "/draft2+eagle3"});

  const ModelTable models = load_models({space, space_of({{"model", "llama-3.1-8b"}})});
  CHECK(models.size() == 2);  // the same with and without
  space.models = {"llama-3.2-1b"};
  CHECK_THAT(refusal(space), Catch::Contains("hidden_size = 4096: not the head of llama-3.2-1b"));
}

TEST_CASE("each number of drafted tokens has a point for every acceptance that it allows") {
  const auto drafts = [](std::initializer_list<std::pair<std::string, std::string>> flags) {
    std::multiset<std::string> found;
    for (const SweepPoint& p : points_of(space_of(flags), 1)) {
      found.insert(fmt::format("{} {:g}", p.config.shape.draft_tokens, p.config.shape.acceptance));
    }
    return found;
  };
  using Found = std::multiset<std::string>;
  CHECK(drafts({{"ranks", "1"}}) == Found{"0 1"});
  CHECK(drafts({{"ranks", "1"}, {"draft-tokens", "0,3"}}) == Found{"0 1", "3 0"});
  CHECK(drafts({{"ranks", "1"}, {"draft-tokens", "0,1,3"}, {"acceptance", "1.8,2.5"}}) ==
        Found{"0 1", "1 1.8", "3 1.8", "3 2.5"});
  const auto refused = [](const char* tokens, const char* acceptance) {
    return refusal(space_of({{"draft-tokens", tokens}, {"acceptance", acceptance}}));
  };
  CHECK(refused("1,3", "2.5") == "--acceptance 2.5: a step with --draft-tokens 1 yields from 1 to 2");
  CHECK(refused("1", "1.5,4") == "--acceptance 4: a step with --draft-tokens 1 yields from 1 to 2");
  CHECK(refused("0", "1.5") == "--acceptance: is that of drafts; valid with --draft-tokens of 1 or more");
}
