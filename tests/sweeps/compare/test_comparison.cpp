#include "sweeps/compare/comparison.hpp"

#include <catch2/catch.hpp>

#include <algorithm>

#include "roofline/base/error.hpp"

using namespace helix;

namespace {

StoredRow ok_row(const std::string& id, double ttl_us, std::size_t samples = 30) {
  StoredRow row{
      .id = id, .status = Status::ok, .reason = {}, .model = "m", .roofline_ttl_us = 50, .samples_us = {}};
  for (std::size_t i = 0; i < samples; ++i) {
    row.samples_us.push_back(ttl_us *
                             (1.0 + 1e-3 * static_cast<double>(i % 7) + 1e-6 * static_cast<double>(i)));
  }
  return row;
}

StoredRow other_row(const std::string& id, Status status, const std::string& reason) {
  return {.id = id, .status = status, .reason = reason, .model = "m", .roofline_ttl_us = 0, .samples_us = {}};
}

StoredRun run_of(std::vector<StoredRow> rows, const std::string& cpu = "a cpu") {
  return {.directory = "run",
          .commit = "c0ffee",
          .complete = true,
          .machine = {{"host/cpu", cpu}},
          .rows = std::move(rows)};
}

/// The only row of a comparison of one run a side.
ComparedRow compared(const StoredRow& base, const StoredRow& head, const ComparisonLimits& limits = {}) {
  const Comparison c = compare_runs({run_of({base})}, {run_of({head})}, limits);
  REQUIRE(c.rows.size() == 1);
  return c.rows.front();
}

Verdict verdict(const StoredRow& base, const StoredRow& head, const ComparisonLimits& limits = {}) {
  return compared(base, head, limits).verdict;
}

}  // namespace

TEST_CASE("compare: a row regresses by more than threshold, floor and what runs differ by") {
  const StoredRow base = ok_row("a", 1000);
  CHECK(verdict(base, ok_row("a", 1100)) == Verdict::regressed);
  CHECK(compared(base, ok_row("a", 1100)).change == Approx(0.1));
  CHECK(verdict(base, ok_row("a", 900)) == Verdict::improved);
  CHECK(verdict(base, ok_row("a", 1050)) == Verdict::unchanged);  // a single row of two runs
  CHECK(compared(base, ok_row("a", 1050)).reason.find("within what these runs differ by") == 0);
  CHECK(verdict(base, ok_row("a", 1050), {.run_noise = 0.01}) == Verdict::regressed);
  CHECK(verdict(base, ok_row("a", 1020), {.run_noise = 0.01}) == Verdict::unchanged);  // below 3 %
  CHECK(verdict(base, ok_row("a", 1020), {.threshold = 0.01, .run_noise = 0.01}) == Verdict::regressed);
  CHECK(verdict(base, ok_row("a", 1100), {.floor_us = 110}) == Verdict::unchanged);
  CHECK(verdict(ok_row("a", 40), ok_row("a", 44)) == Verdict::unchanged);  // 4 us of the floor's 5
  CHECK(verdict(base, base) == Verdict::unchanged);
}

TEST_CASE("compare: a reach beyond all sense is not given in percent") {
  const Comparison c =
      compare_runs({run_of({ok_row("a", 1000)})}, {run_of({ok_row("a", 1000)})}, {.run_noise = 30});
  REQUIRE_FALSE(c.notes.empty());
  CHECK(c.notes.front().find("A row that is over ten times slower would be found") == 0);
}

TEST_CASE("compare: the change shown is that of the columns, beside it the one after the shift of all rows") {
  std::vector<StoredRow> base, head;
  for (int i = 0; i < 10; ++i) {
    base.push_back(ok_row(std::to_string(i), 272.7e3));
    head.push_back(ok_row(std::to_string(i), i == 4 ? 209.3e3 : 248.1e3));
  }
  const Comparison c = compare_runs({run_of(base)}, {run_of(head)}, {.run_noise = 0.2});
  const ComparedRow& row = *std::ranges::find(c.rows, "4", &ComparedRow::id);
  CHECK(row.verdict == Verdict::improved);
  CHECK(row.change == Approx(209.3 / 272.7 - 1));
  CHECK(row.change_after_shift == Approx(209.3 / 248.1 - 1));
  REQUIRE(c.shift.has_value());
  CHECK(c.shift->change == Approx(248.1 / 272.7 - 1));
  CHECK_FALSE(c.shift->counts);
  CHECK(c.count(Verdict::unchanged) == 9);
  CHECK_FALSE(c.failed());
}

TEST_CASE("compare: nine samples a side are needed") {
  CHECK(verdict(ok_row("a", 1000, 9), ok_row("a", 2000, 9)) == Verdict::regressed);
  const ComparedRow few = compared(ok_row("a", 1000, 9), ok_row("a", 2000, 8));
  CHECK(few.verdict == Verdict::too_few_samples);
  CHECK(few.change == Approx(1.0).epsilon(0.01));
  CHECK_FALSE(few.p_value.has_value());
}

TEST_CASE("compare: rows without two times") {
  const StoredRow ok = ok_row("a", 1000), skipped = other_row("a", Status::skipped, "needs 4 ranks"),
                  failed = other_row("a", Status::failed, "out of memory"),
                  wrong = other_row("a", Status::wrong, "attention is off by 0.3");
  CHECK(verdict(ok, failed) == Verdict::failing);
  CHECK(verdict(skipped, failed) == Verdict::failing);
  CHECK(verdict(failed, failed) == Verdict::failing);  // always
  CHECK(verdict(wrong, wrong) == Verdict::failing);
  CHECK(compared(ok, wrong).reason == wrong.reason);
  CHECK(compared(failed, wrong).reason == "in both: " + wrong.reason);
  CHECK(verdict(wrong, failed) == Verdict::failing);
  CHECK(verdict(wrong, skipped) == Verdict::unchanged);
  CHECK(compared(wrong, ok).reason == "wrong in BASE");
  CHECK(verdict(failed, ok) == Verdict::unmatched);
  CHECK(verdict(ok, skipped) == Verdict::newly_skipped);
  CHECK(verdict(skipped, ok) == Verdict::unmatched);
  CHECK(verdict(skipped, skipped) == Verdict::unchanged);

  const Comparison c = compare_runs({run_of({ok_row("a", 1000), ok_row("b", 1000)})},
                                    {run_of({ok_row("c", 1000), ok_row("a", 1000)})}, {});
  CHECK(c.rows[0].id == "b");
  CHECK(c.rows[0].verdict == Verdict::missing);
  CHECK(c.rows[1].id == "c");
  CHECK(c.rows[1].verdict == Verdict::unmatched);
  CHECK(c.rows[1].reason == "not in BASE");
  CHECK(c.failed());
  CHECK_FALSE(c.regression());
}

TEST_CASE("compare: what cannot be judged does not pass, unless that is allowed") {
  const auto fails = [](const StoredRow& head, bool allowed) {
    return compare_runs({run_of({ok_row("a", 1000), ok_row("b", 1000)})}, {run_of({head, ok_row("b", 1000)})},
                        {.allow_unjudged = allowed})
        .failed();
  };
  for (const bool allowed : {false, true}) {
    CHECK(fails(ok_row("a", 1100), allowed));
    CHECK(fails(other_row("a", Status::wrong, "logits"), allowed));
    CHECK(fails(other_row("a", Status::skipped, "does not fit"), allowed));
    CHECK(fails(ok_row("c", 1000), allowed));  // a is missing
    CHECK_FALSE(fails(ok_row("a", 900), allowed));
    CHECK(fails(ok_row("a", 1000, 3), allowed) == !allowed);
    const auto with_new_row =
        compare_runs({run_of({ok_row("a", 1000)})}, {run_of({ok_row("a", 1000), ok_row("c", 1000)})},
                     {.allow_unjudged = allowed});
    CHECK(with_new_row.failed() == !allowed);
  }
}

TEST_CASE("compare: a run that was killed does not pass") {
  const StoredRun whole = run_of({ok_row("a", 1000)});
  StoredRun killed = whole;
  killed.complete = false;
  CHECK(compare_runs({whole}, {killed}, {.allow_unjudged = true}).failed());
  CHECK(compare_runs({whole, whole}, {whole, killed}, {.allow_unjudged = true}).failed());
  CHECK(compare_runs({killed}, {whole}, {}).failed());
  CHECK_FALSE(compare_runs({killed}, {whole}, {.allow_unjudged = true}).failed());
}

TEST_CASE("compare: other machines, models and configurations are not comparable") {
  const StoredRun base = run_of({ok_row("a", 1000)});
  CHECK_THROWS_AS(compare_runs({base}, {run_of({ok_row("a", 1000)}, "another cpu")}, {}), UsageError);
  CHECK_THROWS_AS(compare_runs({base, run_of({ok_row("a", 1000)}, "another cpu")}, {base}, {}), UsageError);
  CHECK_THROWS_WITH(compare_runs({base}, {run_of({ok_row("a", 1000)}, "another cpu")}, {}),
                    Catch::Contains("host/cpu is 'a cpu'") && Catch::Contains("--force"));
  CHECK_THROWS_AS(compare_runs({base}, {run_of({ok_row("b", 1000)})}, {}), UsageError);
  StoredRun other_model = base;
  other_model.rows[0].model = std::string("n");
  CHECK_THROWS_WITH(compare_runs({base}, {other_model}, {.roofline_fractions = true}),
                    Catch::Contains("models m"));
}

TEST_CASE("compare: roofline fractions do not see how fast the machine is") {
  const ComparisonLimits forced{.roofline_fractions = true};
  StoredRow head = ok_row("a", 2000);
  head.roofline_ttl_us = 100;  // half the bandwidth, twice the time
  const ComparedRow same = compared(ok_row("a", 1000), head, forced);
  CHECK(same.verdict == Verdict::unchanged);
  CHECK(*same.base == Approx(*same.head));
  CHECK(*same.base == Approx(0.05).epsilon(0.01));
  const ComparedRow worse = compared(ok_row("a", 1000), ok_row("a", 2000), forced);
  CHECK(worse.verdict == Verdict::regressed);
  CHECK(*worse.head < *worse.base);
  CHECK_NOTHROW(compare_runs({run_of({ok_row("a", 1)})}, {run_of({ok_row("a", 1)}, "another cpu")}, forced));
  head.roofline_ttl_us = 0;
  CHECK(compared(ok_row("a", 1000), head, forced).verdict == Verdict::unmatched);
}

TEST_CASE("compare: repeats are judged run by run") {
  const auto side = [](std::initializer_list<double> ttl_us) {
    std::vector<StoredRun> runs;
    // Rows of one run share its mode; row a is what the case is about.
    for (const double us : ttl_us)
      runs.push_back(run_of({ok_row("a", us), ok_row("b", 500), ok_row("c", 700)}));
    return runs;
  };
  const auto verdict_of_a = [](const Comparison& c) {
    return std::ranges::find(c.rows, "a", &ComparedRow::id)->verdict;
  };
  CHECK(verdict_of_a(compare_runs(side({1000, 1001, 1002, 1003, 1004}), side({1100, 1101, 1102, 1103, 1104}),
                                  {})) == Verdict::regressed);
  // Runs of both sides in two modes: pooled samples would still be significant, runs are not.
  CHECK(verdict_of_a(compare_runs(side({1000, 1101, 1100, 1003, 1004}), side({1100, 1101, 1002, 1103, 1104}),
                                  {})) == Verdict::unchanged);
  CHECK(verdict_of_a(compare_runs(side({1000, 1001}), side({1100, 1101}), {})) == Verdict::regressed);
  CHECK(verdict_of_a(compare_runs(side({1000, 1001, 1002}), side({1100}), {})) == Verdict::regressed);
  CHECK(verdict_of_a(compare_runs(side({1000, 1050}), side({1100}), {})) == Verdict::unchanged);
}

TEST_CASE("compare: a row has to be measured in all repeats") {
  const StoredRun with = run_of({ok_row("a", 1000), ok_row("b", 1000)}),
                  without = run_of({ok_row("b", 1000)});
  const Comparison c = compare_runs({with, without}, {with, with}, {});
  CHECK(c.count(Verdict::unmatched) == 1);
  CHECK(compare_runs({with, with}, {with, without}, {}).count(Verdict::missing) == 1);
  const StoredRun wrong = run_of({other_row("a", Status::wrong, "logits"), ok_row("b", 1000)});
  CHECK(compare_runs({with, with}, {with, wrong}, {}).failed());
}

TEST_CASE("compare: runs of several commits and incomplete runs are told") {
  StoredRun base = run_of({ok_row("a", 1000)}), again = base;
  again.commit = std::string("decaf");
  again.complete = false;
  const std::vector<std::string> notes = compare_runs({base, again}, {base}, {}).notes;
  CHECK(std::ranges::count(notes, "BASE holds runs of different commits, c0ffee and decaf.") == 1);
  CHECK(std::ranges::count(notes, "The run 'run' is incomplete; to end it: sweep --resume --out run") == 1);
}
