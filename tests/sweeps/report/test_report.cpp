#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "sweeps/report/page.hpp"
#include "sweeps/report/plot.hpp"
#include "sweeps/report/tables.hpp"
#include "sweeps/results/frontier.hpp"
#include "sweeps/results/row_text.hpp"
#include "sweeps/results/rows.hpp"

using namespace helix;

namespace {

constexpr Sharding eight{.kvp = 8, .tpa = 1, .tpf = 8, .ep = 1, .pp = 1, .dp = 1};
constexpr Sharding eight_tp{.kvp = 1, .tpa = 8, .tpf = 8, .ep = 1, .pp = 1, .dp = 1};

Run run_of(std::vector<ResultRow> rows) {
  Run run;
  run.name = "run";
  run.rows = std::move(rows);
  run.provenance = nlohmann::ordered_json::object();
  mark_pareto(run.rows);
  return run;
}

/// The values of the first panel.
Json values(const Plot& plot) {
  return plot.spec["concat"][0]["data"]["values"];
}

}  // namespace

TEST_CASE("token counts and shardings are written as people say them") {
  CHECK(token_text(4096) == "4K");
  CHECK(token_text(1 << 20) == "1M");
  CHECK(token_text(1000000) == "1000000");
  CHECK(sharding_text(Sharding{.kvp = 2, .tpa = 1, .tpf = 1, .ep = 4, .pp = 3, .dp = 2}) ==
        "KVP 2 TPA 1 > TPF 1 EP 4 PP 3 DP 2");
}

TEST_CASE("thinning keeps the ends and stays in order") {
  const std::vector<int> ten{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  CHECK(thinned(ten, 10) == ten);
  CHECK(thinned(ten, 4) == std::vector<int>{0, 3, 6, 9});
  CHECK(thinned(std::vector<int>{}, 4).empty());
}

TEST_CASE("a scene is one run, model, context and precision, its rows by batch and time") {
  ResultRow other = predicted_row(Strategy::helix, eight, 5e3, 1);
  other.config.shape.context = 4096;
  ResultRow skipped = predicted_row(Strategy::medha, eight);
  skipped.status = Status::skipped;
  const std::vector<Run> runs{run_of({predicted_row(Strategy::tp, eight_tp, 9e3, 8), other,
                                      predicted_row(Strategy::helix, eight, 7e3, 8), skipped,
                                      predicted_row(Strategy::helix, eight, 6e3, 1)}),
                              run_of({predicted_row(Strategy::tp, eight_tp, 9e3, 8)})};
  const std::vector<Scene> scenes = scenes_of(runs);
  REQUIRE(scenes.size() == 3);
  CHECK(scene_title(scenes[0]) == "deepseek-r1, 4K tokens, nvfp4/fp8");
  std::vector<double> times;
  for (const Scene& scene : scenes) {
    if (scene.context == 1 << 20 && scene.run == &runs[0]) {
      for (const ResultRow* row : scene.rows) times.push_back(ttl_us(*row));
    }
  }
  CHECK(times == std::vector<double>{6e3, 7e3, 9e3});
}

TEST_CASE("a panel with too many rows shows the frontier and the best of each strategy") {
  std::vector<ResultRow> rows;
  for (int i = 0; i < 30; ++i)
    rows.push_back(predicted_row(Strategy::helix, eight, 7e3 + i, 8));  // one is best
  for (int i = 0; i < 30; ++i) rows.push_back(predicted_row(Strategy::tp, eight_tp, 9e3 + i, 8));
  const std::vector<Run> runs{run_of(rows)};
  const auto shown = rows_for_lines(scenes_of(runs).front(), 12);
  REQUIRE(shown.size() == 2);
  CHECK(ttl_us(*shown[0]) == 7e3);
  CHECK(ttl_us(*shown[1]) == 9e3);
}

TEST_CASE("the crossover map names the fastest, its gain, and ties for what they are") {
  const auto field = [](double helix_us, double tp_us) {
    const std::vector<Run> runs{run_of({predicted_row(Strategy::helix, eight, helix_us),
                                        predicted_row(Strategy::helix, eight, 2 * helix_us),
                                        predicted_row(Strategy::tp, eight_tp, tp_us)})};
    return values(crossover_plot(runs).value())[0];
  };
  CHECK(field(5e3, 7.5e3)["winner"] == "helix");
  CHECK(field(5e3, 7.5e3)["below"] == "1.50×");
  CHECK(field(5e3, 7.5e3)["runner_up"] == "tp");
  CHECK(field(9e3, 6e3)["winner"] == "tp");
  CHECK(field(5e3, 5.02e3)["winner"] == "tie");
  CHECK(field(5e3, 5.02e3)["fastest"] == "helix");
  CHECK_FALSE(crossover_plot(std::vector<Run>{run_of({predicted_row(Strategy::helix, eight)})}));
}

TEST_CASE("phases of a row add up to its predicted time") {
  ResultRow row = predicted_row(Strategy::helix, eight);
  for (std::size_t i = 0; i < phase_count; ++i)
    row.prediction->phases.us[i] = 100.0 * static_cast<double>(i + 1);
  const std::vector<Run> runs{run_of({row})};
  double sum = 0;
  std::set<std::string> phases;
  for (const Json& value : values(phases_plot(scenes_of(runs)))) {
    sum += value["ms"].get<double>();
    phases.insert(value["phase"].get<std::string>());
  }
  CHECK(sum == Approx(3.6));  // 100 + ... + 800 us
  CHECK(phases.size() == 7);  // both all-reduces are one
}

TEST_CASE(
    "plotted tokens are those that a step yields; what one rank computes is composed with the exchanges") {
  ResultRow drafted = predicted_row(Strategy::helix, eight, 10e3, 16);
  drafted.config.shape.draft_tokens = 3;
  drafted.config.shape.acceptance = 2;
  ResultRow alone = predicted_row(Strategy::helix, eight, 10e3, 16);
  alone.status = Status::one_rank;
  alone.share.emplace().compute.ttl_us = 15e3;
  alone.share->exchange_us = 5e3;
  const auto per_user = [](const ResultRow& row, const char* source) {
    const std::vector<Run> runs{run_of({row})};
    for (const Json& value : values(pareto_plot(scenes_of(runs)))) {
      if (value["source"] == source) return value["x"].get<double>();
    }
    return 0.0;
  };
  CHECK(per_user(drafted, "model") == Approx(200));
  CHECK(per_user(alone, "composed") == Approx(50));
  CHECK(per_user(alone, "model") == Approx(100));
  CHECK(per_user(alone, "measured") == 0);
}

TEST_CASE("a field of many points keeps every frontier point and few others") {
  std::vector<ResultRow> rows;
  for (int i = 0; i < 2000; ++i) rows.push_back(predicted_row(Strategy::helix, eight, 10e3 + i, 8));
  for (int batch = 1; batch <= 8; ++batch) {
    rows.push_back(predicted_row(Strategy::helix, eight, 1e3 * batch, 8 * batch * batch));
  }
  const std::vector<Run> runs{run_of(rows)};
  const Json points = values(pareto_plot(scenes_of(runs)));
  CHECK(std::ranges::count_if(points, [](const Json& point) { return point["front"].get<bool>(); }) == 8);
  CHECK(points.size() < 30);
}

TEST_CASE("texts of a run cannot become part of the page") {
  CHECK(html_text("a<b> & \"c\"") == "a&lt;b&gt; &amp; &quot;c&quot;");
  ResultRow row = predicted_row(Strategy::helix, eight);
  row.config.model = "</script><script>alert(1)</script>";
  const std::vector<Run> runs{run_of({row})};
  const std::string page = report_page(runs, report_plots(runs), "no-such-directory");
  CHECK(page.find("alert(1)") != std::string::npos);
  CHECK(page.find("<script>alert") == std::string::npos);
}
