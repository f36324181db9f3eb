#include <catch2/catch.hpp>

#include "sweeps/report/contests.hpp"
#include "sweeps/results/rows.hpp"

using namespace helix;

namespace {

constexpr Sharding helix8{.kvp = 8, .tpa = 1, .tpf = 8, .ep = 1, .pp = 1, .dp = 1};
constexpr Sharding tp8{.kvp = 1, .tpa = 8, .tpf = 8, .ep = 1, .pp = 1, .dp = 1};
constexpr Sharding tp4{.kvp = 1, .tpa = 4, .tpf = 4, .ep = 1, .pp = 1, .dp = 1};

ResultRow row_at(std::int64_t context, Strategy strategy, const Sharding& sharding, double ttl_us,
                 std::int64_t batch = 8) {
  ResultRow row = predicted_row(strategy, sharding, ttl_us, batch);
  row.config.shape.context = context;
  return row;
}

ResultRow measured(ResultRow row, double relative_error) {
  row.measurement.emplace().ttl_us = row.prediction->model_ttl_us;
  row.measurement->ttl_rel_stderr = relative_error;
  return row;
}

std::string verdict_of(std::vector<ResultRow> rows) {
  const std::vector<Run> runs{
      {.directory = {}, .name = "run", .rows = std::move(rows), .crossover = {}, .provenance = {}}};
  const std::vector<Contest> contests = contests_of(runs);
  REQUIRE(contests.size() == 1);
  return verdict(contests.front());
}

}  // namespace

TEST_CASE("two times are told apart beyond twice the error of their ratio") {
  const auto pair = [](double ratio, double error) {
    return std::pair{measured(row_at(4096, Strategy::helix, helix8, 1000), error),
                     measured(row_at(4096, Strategy::tp, tp8, 1000 * ratio), error)};
  };
  for (const auto& [ratio, error, same] : {std::tuple{1.10, 0.05, true},
                                           {1.20, 0.05, false},
                                           {1.0049, 0.0, true},
                                           {1.006, 0.0, false},
                                           {1 / 1.10, 0.05, true}}) {
    const auto [a, b] = pair(ratio, error);
    CHECK(within_noise(a, b) == same);
    CHECK(within_noise(b, a) == same);
  }
}

TEST_CASE("a verdict tells the longest context first and puts alike ones together") {
  CHECK(verdict_of({row_at(4096, Strategy::helix, helix8, 1000), row_at(4096, Strategy::tp, tp8, 1001),
                    row_at(65536, Strategy::helix, helix8, 1000), row_at(65536, Strategy::tp, tp8, 1300),
                    row_at(65536, Strategy::helix, helix8, 2000, 16),
                    row_at(65536, Strategy::tp, tp8, 3000, 16)}) ==
        "Helix is 1.3 to 1.5 times as fast as tp at 64K tokens; at 4K within the noise of tp");
  CHECK(verdict_of({row_at(4096, Strategy::helix, helix8, 2000), row_at(4096, Strategy::tp, tp8, 1000),
                    row_at(8192, Strategy::helix, helix8, 2000), row_at(8192, Strategy::tp, tp8, 1000)}) ==
        "Helix is slower than tp by a factor of 2 at 8K and 4K tokens");
}

TEST_CASE("steps with drafts meet others by the time of a token, where that is known") {
  const auto drafted = [](Strategy strategy, const Sharding& sharding, double ttl_us, double acceptance) {
    ResultRow row = row_at(1 << 20, strategy, sharding, ttl_us);
    row.config.shape.draft_tokens = 3;
    row.config.shape.acceptance = acceptance;
    row.prediction->tokens_per_s_user = acceptance * 1e6 / ttl_us;
    return row;
  };
  const ResultRow tp = row_at(1 << 20, Strategy::tp, tp8, 1000);
  CHECK_THAT(verdict_of({drafted(Strategy::helix, helix8, 1200, 2.4), tp}),
             Catch::Contains("2.0 times as fast as tp") || Catch::Contains("2 times as fast as tp"));
  CHECK_THAT(verdict_of({drafted(Strategy::helix, helix8, 500, 0),
                         row_at(1 << 20, Strategy::helix, helix8, 2000), tp}),
             Catch::Contains("slower than tp by a factor of 2"));
}

TEST_CASE("only rows of the same ranks meet, and a layout that is a baseline counts for it") {
  CHECK(verdict_of({row_at(4096, Strategy::helix, helix8, 1000), row_at(4096, Strategy::tp, tp4, 5000)})
            .empty());
  CHECK(
      verdict_of({row_at(4096, Strategy::helix, tp8, 1000), row_at(4096, Strategy::tp, tp8, 5000)}).empty());
  CHECK(verdict_of({row_at(4096, Strategy::helix, helix8, 1000)}).empty());
}
