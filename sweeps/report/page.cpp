#include "sweeps/report/page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "roofline/base/embedded.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/statistics.hpp"
#include "sweeps/output/provenance.hpp"
#include "sweeps/report/plot_python.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr std::size_t most_table_rows = 1000;

/// Rows of an HTML table.
class TableText {
 public:
  explicit TableText(std::initializer_list<std::string_view> heads) {
    text_ = "<div class=\"scroll\"><table><thead><tr>";
    for (const auto head : heads) text_ += fmt::format("<th>{}</th>", html_text(head));
    text_ += "</tr></thead><tbody>\n";
  }
  TableText& row() {
    if (open_) text_ += "</tr>\n";
    open_ = true;
    text_ += "<tr>";
    return *this;
  }
  TableText& text(std::string_view cell) { return add("", cell); }
  TableText& name(std::string_view cell) { return add(" class=\"name\"", cell); }
  TableText& number(std::string_view cell) { return add(" class=\"number\"", cell); }
  std::string str() const { return text_ + (open_ ? "</tr>\n" : "") + "</tbody></table></div>\n"; }

 private:
  TableText& add(std::string_view attribute, std::string_view cell) {
    text_ += fmt::format("<td{}>{}</td>", attribute, html_text(cell));
    return *this;
  }
  std::string text_;
  bool open_ = false;
};

/// A value of run.json as text: strings as they are, lists joined by blanks, null and missing as nothing.
std::string value_text(const Json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_structured()) return value.dump();
  std::string text;
  for (const auto& [key, entry] : value.items()) {
    const std::string one = value_text(entry);
    if (value.is_array()) {
      text += (text.empty() ? "" : " ") + one;
    } else {
      text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", key, one);
    }
  }
  return text;
}

std::string value_at(const Run& run, const char* pointer) {
  const Json::json_pointer path(pointer);
  return run.provenance.contains(path) ? value_text(run.provenance.at(path)) : "";
}

std::string count_of(const Run& run, Status status) {
  return fmt::format("{}", std::ranges::count(run.rows, status, &ResultRow::status));
}

/// "median 6.3 %, largest 13.7 %" of |model error|.
std::string model_error_text(const Run& run) {
  std::vector<double> errors;
  for (const ResultRow& row : run.rows) {
    if (row.status == Status::ok && row.measurement && row.prediction) {
      errors.push_back(std::abs(row.prediction->model_ttl_us / row.measurement->ttl_us - 1));
    }
  }
  if (errors.empty()) return "";
  return fmt::format("median {:.1f} %, largest {:.1f} %", 100 * median(errors),
                     100 * std::ranges::max(errors));
}

std::string summary_table(std::span<const Run> runs) {
  TableText table(
      {"run", "kind", "system", "device", "started", "ok", "skipped", "failed", "wrong", "|model error|"});
  for (const Run& run : runs) {
    const bool complete = value_at(run, "/complete") != "false";
    table.row()
        .name(run.name + (complete ? "" : " (broken off)"))
        .text(run.measured() ? "measured, " + value_at(run, "/kernel") : "predicted")
        .text(value_at(run, "/system"))
        .text(value_at(run, "/device"))
        .name(value_at(run, "/start_time"))
        .number(count_of(run, Status::ok))
        .number(count_of(run, Status::skipped))
        .number(count_of(run, Status::failed))
        .number(count_of(run, Status::wrong))
        .text(model_error_text(run));
  }
  return table.str();
}

std::string rows_table(std::span<const Run> runs) {
  TableText table({"run", "model", "context", "batch", "strategy", "sharding", "weights/KV", "TTL ms",
                   "model TTL ms", "tok/s/user", "tok/s/GPU", "roofline", "bound", "frontier", "note", "id"});
  std::size_t shown = 0, all = 0;
  for (const Run& run : runs) {
    for (const ResultRow& row : run.rows) {
      if (row.status != Status::ok) continue;
      ++all;
      if (shown >= most_table_rows) continue;
      ++shown;
      const DecodeShape& shape = row.config.shape;
      const auto ms = [](double us) { return fmt::format("{:.4g}", us / 1e3); };
      table.row()
          .name(run.name)
          .name(row.config.model)
          .number(token_text(shape.context))
          .number(fmt::format("{}", shape.batch))
          .name(name(row.config.strategy))
          .name(sharding_text(row.config))
          .name(precision_text(shape.weight_dtype, shape.kv_dtype))
          .number(row.measurement ? ms(row.measurement->ttl_us) : "")
          .number(row.prediction ? ms(row.prediction->model_ttl_us) : "")
          .number(fmt::format("{:.4g}", tokens_per_s_user(row)))
          .number(fmt::format("{:.4g}", tokens_per_s_gpu(row)))
          .number(row.prediction
                      ? fmt::format("{:.1f} %", 100 * row.prediction->roofline_ttl_us / ttl_us(row))
                      : "")
          .text(row.prediction ? name(row.prediction->bound) : "")
          .text(row.pareto ? "yes" : "")
          .text(row.reason)
          .name(row.id);
    }
  }
  const std::string note =
      shown < all ? fmt::format("<p>The first {} of {} rows; all are in results.csv.</p>", shown, all) : "";
  return fmt::format("<details><summary>All rows ({})</summary>\n{}{}</details>\n", all, note, table.str());
}

/// What was asked for and has no numbers, by reason: a sweep skips thousands for the same one.
std::string missing_rows(std::span<const Run> runs) {
  std::map<std::tuple<std::string, std::string, std::string>, std::pair<std::size_t, std::string>> reasons;
  for (const Run& run : runs) {
    for (const ResultRow& row : run.rows) {
      if (row.status == Status::ok) continue;
      auto& [count, example] = reasons[{run.name, std::string(name(row.status)), row.reason}];
      if (count++ == 0) example = row.id;
    }
  }
  if (reasons.empty()) return "";
  TableText table({"run", "status", "reason", "rows", "for instance"});
  std::size_t shown = 0;
  for (const auto& [key, entry] : reasons) {
    if (++shown > most_table_rows) break;
    const auto& [run, status, reason] = key;
    table.row().name(run).text(status).text(reason).number(fmt::format("{}", entry.first)).name(entry.second);
  }
  return "<h2 id=\"missing\">Skipped, failed and wrong</h2>\n" + table.str();
}

std::string provenance(const Run& run) {
  TableText table({"", ""});
  for (const auto& [title, pointer] : {std::pair{"command line", "/command_line"},
                                       {"version", "/version"},
                                       {"commit", "/commit"},
                                       {"start", "/start_time"},
                                       {"end", "/end_time"},
                                       {"complete", "/complete"},
                                       {"resumed", "/resumed"},
                                       {"backend", "/backend"},
                                       {"kernel", "/kernel"},
                                       {"device", "/device"},
                                       {"system of the prediction", "/system"},
                                       {"MPI ranks", "/mpi/ranks"},
                                       {"threads per rank", "/mpi/threads_per_rank"},
                                       {"placement", "/mpi/placement"},
                                       {"seed", "/seed"},
                                       {"stopping", "/stopping"},
                                       {"host", "/host/name"},
                                       {"CPU", "/host/cpu"},
                                       {"cores online", "/host/cores_online"},
                                       {"clock at start, MHz", "/host/clock_mhz_at_start"},
                                       {"memory, bytes", "/host/memory_bytes"},
                                       {"kernel of the system", "/host/kernel"},
                                       {"libraries", "/libraries"},
                                       {"environment", "/environment"}}) {
    const std::string value = value_at(run, pointer);
    if (!value.empty()) table.row().name(title).text(value);
  }
  const std::string calibration = value_at(run, "/calibration");
  return fmt::format("<details open><summary>{} ({})</summary>\n{}{}</details>\n", html_text(run.name),
                     html_text(run.directory.string()), table.str(),
                     calibration.empty()
                         ? ""
                         : fmt::format("<details><summary>Calibration</summary><pre>{}</pre></details>",
                                       html_text(calibration)));
}

std::string file_text(const std::filesystem::path& path) {
  std::ostringstream text;
  if (std::ifstream file(path, std::ios::binary); file) text << file.rdbuf();
  return text.str();
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
  text += "<h2>Runs</h2>\n" + summary_table(runs);
  if (plots.empty()) text += "<p>No row has a time, so there is nothing to plot.</p>\n";
  for (const Plot& plot : plots) {
    text += fmt::format(
        "<h2 id=\"{0}\">{1}</h2>\n<figure id=\"plot-{0}\">{2}</figure>\n<p class=\"muted\">{3}</p>\n",
        plot.name, html_text(plot.title), file_text(pictures / (plot.name + ".svg")),
        html_text(plot.caption));
  }
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

std::string html_text(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

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
