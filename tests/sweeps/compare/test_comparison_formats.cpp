#include "sweeps/compare/comparison_formats.hpp"

#include <catch2/catch.hpp>

#include <fstream>
#include <sstream>

using namespace helix;

namespace {

std::string golden(const std::string& name) {
  std::ifstream file(std::string(HELIX_SOURCE_DIR "/tests/sweeps/compare/golden/") + name, std::ios::binary);
  REQUIRE(file);
  return (std::ostringstream() << file.rdbuf()).str();
}

ComparedRow row(const std::string& id, Verdict verdict, const std::string& reason) {
  ComparedRow r;
  r.id = id;
  r.verdict = verdict;
  r.reason = reason;
  return r;
}

ComparedRow timed(const std::string& id, Verdict verdict, double base, double head, double p) {
  ComparedRow r = row(id, verdict, "");
  r.base = base;
  r.head = head;
  r.change = head / base - 1.0;
  r.change_after_shift = *r.change - 0.01;
  r.detectable = 0.04;
  r.p_value = p;
  r.base_samples = 40;
  r.head_samples = 41;
  return r;
}

Comparison example() {
  Comparison c;
  c.base = {{"runs/base"}, "0123456789ab", {}};
  c.head = {{"runs/new"}, "ba9876543210-dirty", {}};
  c.shift = CommonShift{.change = 0.01, .detectable = 0.09, .counts = false};
  c.notes = {"A note."};
  c.rows = {
      row("m/helix/kvp2.tpa1/s300/b4", Verdict::failing, "verification: |x| < 1 & \"y\"\x01, attention"),
      timed("m/helix/kvp2.tpa1/s300/b1", Verdict::regressed, 1000, 1050, 1.25e-5),
      row("m/tp/kvp1.tpa2/s300/b8", Verdict::missing, "not in NEW"),
      row("m/tp/kvp1.tpa2/s300/b4", Verdict::newly_skipped, "does not fit: needs 3 GiB, has 2 GiB"),
      row("m/tp/kvp1.tpa2/s64/b1", Verdict::unmatched, "not in BASE"),
      timed("m/tp/kvp1.tpa2/s64/b4", Verdict::too_few_samples, 500, 600, 1),
      timed("m/tp/kvp1.tpa2/s300/b1", Verdict::improved, 2000, 1800, 3e-7),
      timed("m/tp/kvp1.tpa2/s300/b2", Verdict::unchanged, 1500.5, 1512.25, 0.4)};
  c.rows[5].reason = "at least 9 samples are needed";
  c.rows[5].p_value.reset();
  c.rows[5].change_after_shift.reset();
  c.rows[5].detectable.reset();
  return c;
}

}  // namespace

TEST_CASE("a comparison as table, Markdown, JSON, CSV, JUnit and benchmark-action has the stable form") {
  const Comparison c = example();
  CHECK(comparison_table(c) == golden("comparison.txt"));
  CHECK(comparison_markdown(c) == golden("comparison.md"));
  CHECK(comparison_json(c) == golden("comparison.json"));
  CHECK(comparison_csv(c) == golden("comparison.csv"));
  CHECK(comparison_junit(c) == golden("comparison.junit.xml"));
  CHECK(comparison_benchmark_action(c) == golden("comparison.benchmark-action.json"));
}

TEST_CASE("a comparison of roofline fractions says so in every form") {
  Comparison c = example();
  c.limits.roofline_fractions = true;
  c.rows = {timed("m", Verdict::regressed, 0.9, 0.6, 1e-5)};
  c.rows[0].change = 0.5;
  CHECK(comparison_table(c).find("90.0 %        60.0 %   +50.00 %     -34.33 %") != std::string::npos);
  CHECK(comparison_json(c).find("\"new_roofline_fraction\": 0.6") != std::string::npos);
  CHECK(comparison_csv(c).find("m,regressed,,0.9,0.6,50,-34.33333,4,1e-05,40,41") != std::string::npos);
  CHECK(comparison_junit(c).find("roofline fraction 0.6 instead of 0.9") != std::string::npos);
  CHECK(comparison_benchmark_action(c).find("\"value\": 1.666667") != std::string::npos);
}

TEST_CASE("the headline counts what there is") {
  Comparison c = example();
  CHECK(comparison_headline(c) ==
        "REGRESSION: 1 failing, 1 regressed, 1 missing, 1 newly skipped, 1 unmatched, 1 too few samples, 1 "
        "improved, 1 unchanged (8 rows)");
  c.rows = {c.rows.begin() + 2, c.rows.begin() + 3};
  CHECK(comparison_headline(c) == "NOT JUDGED: 1 missing (1 row)");
  c = example();
  c.rows = {c.rows.back()};
  CHECK(comparison_headline(c) == "no regression: 1 unchanged (1 row)");
  c.head.incomplete = {"runs/new"};
  CHECK(comparison_headline(c) == "NOT JUDGED: 1 unchanged, incomplete runs (1 row)");
}
