#include <catch2/catch.hpp>

#include "sweeps/output/table.hpp"
#include "sweeps/results/frontier.hpp"
#include "tests/sweeps/results/rows.hpp"

using namespace helix;

TEST_CASE("the frontier is that of one model, context and precision") {
  std::vector<ResultRow> rows{measured_row(1, 1000), measured_row(8, 2000), measured_row(2, 3000),
                              measured_row(1, 5000), skipped_row()};
  rows[3].config.shape.context = 1024;  // alone in its group
  mark_pareto(rows);
  std::vector<bool> marks;
  for (const ResultRow& row : rows) marks.push_back(row.pareto);
  // tokens/s/user, tokens/s/GPU: (1000, 500) and (500, 2000) stay; (333, 333) is beaten by both.
  CHECK(marks == std::vector<bool>{true, true, false, true, false});
}

TEST_CASE("the frontier and what is printed only know rows within the budget") {
  std::vector<ResultRow> rows{measured_row(1, 1000), measured_row(8, 2000), skipped_row()};
  rows[1].meets_budget = false;
  mark_pareto(rows);
  CHECK(rows[0].pareto);
  CHECK_FALSE(rows[1].pareto);
  CHECK(rows_to_print(rows, OutputFormat::json).size() == 1);
  CHECK(rows_to_print(rows, OutputFormat::table).size() == 2);  // and why one was skipped
  CHECK_THAT(budget_text(rows, 1.5), Catch::StartsWith("1 of 3 rows meet the budget of 1.5 ms"));
  rows[0].meets_budget = rows[1].meets_budget = std::nullopt;
  CHECK(rows_to_print(rows, OutputFormat::csv).size() == 3);
}

TEST_CASE("predictions of several systems have a frontier each, measured rows one") {
  ResultRow fast = measured_row(4, 1);
  fast.measurement.reset();
  fast.prediction->tokens_per_s_user = fast.prediction->tokens_per_s_gpu = 1000;
  ResultRow slow = fast;
  slow.prediction->tokens_per_s_user = slow.prediction->tokens_per_s_gpu = 10;
  slow.system = "elsewhere";
  std::vector<ResultRow> rows{fast, slow, measured_row(4, 1000), measured_row(4, 2000)};
  rows[3].system = "here-r4";
  mark_pareto(rows);
  CHECK(rows[0].pareto);
  CHECK(rows[1].pareto);
  CHECK(rows[2].pareto);
  CHECK_FALSE(rows[3].pareto);
}

TEST_CASE("a measured row that the frontier beats by no more than the noise is a tie") {
  ResultRow best = measured_row(1, 1000), near = measured_row(1, 1030), behind = measured_row(1, 1200);
  for (ResultRow* row : {&best, &near, &behind}) {
    row->measurement->samples_us.clear();
    row->measurement->ttl_rel_stderr = 0.02;  // 2 * 0.02 * sqrt(2) = 5.7 % can be told
  }
  ResultRow predicted = near;
  predicted.measurement.reset();
  std::vector<ResultRow> rows{best, near, behind, predicted};
  mark_pareto(rows);
  CHECK(rows[0].pareto);
  CHECK_FALSE(rows[0].pareto_tie);
  CHECK_FALSE(rows[1].pareto);
  CHECK(rows[1].pareto_tie);
  CHECK_FALSE(rows[2].pareto_tie);
  CHECK_FALSE(rows[3].pareto_tie);
  rows[1].measurement->ttl_us = 1300;
  mark_pareto(rows);  // what was a tie need not stay one
  CHECK_FALSE(rows[1].pareto_tie);
}
