#include "sweeps/report/page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "roofline/base/embedded.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/output/provenance.hpp"
#include "sweeps/report/contests.hpp"
#include "sweeps/report/plot_python.hpp"
#include "sweeps/report/tables.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

std::string file_text(const std::filesystem::path& path) {
  std::ostringstream text;
  if (std::ifstream file(path, std::ios::binary); file) text << file.rdbuf();
  return text.str();
}

/// Each contest's verdict in a sentence, named where there are several.
std::string verdicts(std::span<const Run> runs) {
  const std::vector<Contest> contests = contests_of(runs);
  std::string text;
  for (const Contest& contest : contests) {
    const std::string says = verdict(contest);
    if (says.empty()) continue;
    std::string of = contest.model;
    if (!contest.system.empty()) of += " on " + contest.system;
    if (runs.size() > 1) of += ", " + contest.run->name;
    text += fmt::format("<p class=\"verdict\">{}: {} ({} {} ranks, {}).</p>\n", html_text(of),
                        html_text(says), contest.measured ? "measured on" : "predicted for", contest.ranks,
                        precision_text(contest.weight_dtype, contest.kv_dtype));
  }
  return text;
}

std::string body(std::span<const Run> runs, const std::vector<Plot>& plots,
                 const std::filesystem::path& pictures) {
  std::string names;
  for (const Run& run : runs) names += (names.empty() ? "" : ", ") + run.name;
  std::string text = fmt::format(
      "<h1>helix-bench: {}</h1>\n<p class=\"muted\">Helix-parallel decoding, measured and predicted. Made {} "
      "by "
      "helix-bench {} ({}).</p>\n<nav>",
      html_text(names), utc_now(), program_version(), program_commit());
  for (const Plot& plot : plots)
    text += fmt::format("<a href=\"#{}\">{}</a>", plot.name, html_text(plot.title));
  const std::string missing = missing_rows(runs);
  text += missing.empty() ? "" : "<a href=\"#missing\">Skipped, failed and wrong</a>";
  text += "<a href=\"#rows\">Rows</a><a href=\"#provenance\">Provenance</a></nav>\n";
  text += verdicts(runs);
  const auto figure = [&](const Plot& plot) {
    return fmt::format(
        "<h2 id=\"{0}\">{1}</h2>\n<figure id=\"plot-{0}\">{2}</figure>\n<p class=\"muted\">{3}</p>\n",
        plot.name, html_text(plot.title), file_text(pictures / (plot.name + ".svg")),
        html_text(plot.caption));
  };
  if (!plots.empty()) text += figure(plots.front());
  text += "<h2 id=\"runs\">Runs</h2>\n" + summary_table(runs);
  if (plots.empty()) text += "<p>No row has a time, so there is nothing to plot.</p>\n";
  for (const Plot& plot : std::span(plots).subspan(plots.empty() ? 0 : 1)) text += figure(plot);
  text += missing;
  text += "<h2 id=\"rows\">Rows</h2>\n" + rows_table(runs);
  text += "<h2 id=\"provenance\">Provenance</h2>\n";
  for (const Run& run : runs) text += provenance(run);
  return text;
}

/// JSON that no HTML parser takes for the end of its script element.
std::string script_json(const Json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<')
      text += "\\u003c";
    else
      text += c;
  }
  return text;
}

std::string_view page_script() {
  return std::ranges::find(embedded_report_scripts(), std::string_view("page"), &EmbeddedFile::name)->text;
}

}  // namespace

std::string report_page(std::span<const Run> runs, const std::vector<Plot>& plots,
                        const std::filesystem::path& pictures) {
  Json data = {{"themes", {{"light", plot_theme(false)}, {"dark", plot_theme(true)}}},
               {"plots", Json::array()}};
  for (const Plot& plot : plots) data["plots"].push_back({{"name", plot.name}, {"spec", plot.spec}});
  const std::map<std::string_view, std::string> parts = {{"@BODY@", body(runs, plots, pictures)},
                                                         {"@PLOTS@", script_json(data)},
                                                         {"@VEGA@", vega_javascript()},
                                                         {"@SCRIPT@", std::string(page_script())}};
  std::string page;
  std::string_view rest = embedded_report_page().front().text;
  while (true) {
    const auto at = rest.find('@');
    page += rest.substr(0, at);
    if (at == std::string_view::npos) return page;
    rest.remove_prefix(at);
    const auto part =
        std::ranges::find_if(parts, [&](const auto& entry) { return rest.starts_with(entry.first); });
    page += part == parts.end() ? "@" : part->second;
    rest.remove_prefix(part == parts.end() ? 1 : part->first.size());
  }
}

}  // namespace helix
