#include "sweeps/report/tables.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <tuple>
#include <vector>

#include "roofline/base/statistics.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr std::size_t most_table_rows = 1000;
constexpr std::size_t most_reasons = 25;

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
std::string value_text(const nlohmann::ordered_json& value) {
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
  const nlohmann::ordered_json::json_pointer path(pointer);
  return run.provenance.contains(path) ? value_text(run.provenance.at(path)) : "";
}

std::string count_of(const Run& run, Status status) {
  return fmt::format("{}", std::ranges::count(run.rows, status, &ResultRow::status));
}
std::string timed_of(const Run& run) {
  return fmt::format("{}", std::ranges::count_if(run.rows, is_timed, &ResultRow::status));
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

/// Reasons that differ in their figures alone are of one kind.
std::string without_figures(const std::string& reason) {
  std::string kind;
  for (const char c : reason) {
    const bool figure = (c >= '0' && c <= '9') || (c == '.' && !kind.empty() && kind.back() == '#');
    if (!figure) kind += c;
    if (figure && (kind.empty() || kind.back() != '#')) kind += '#';
  }
  return kind;
}

}  // namespace

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
        .number(timed_of(run))
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
      if (!is_timed(row.status)) continue;
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
          .text(row.pareto       ? "yes"
                : row.pareto_tie ? "tie"
                                 : "")
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
  struct Reason {
    std::string run, status, text, id;  // of the first row
    std::size_t rows = 0;
  };
  std::map<std::tuple<std::string, Status, std::string>, Reason> by_kind;
  for (const Run& run : runs) {
    for (const ResultRow& row : run.rows) {
      if (is_timed(row.status)) continue;
      Reason& reason = by_kind[{run.name, row.status, without_figures(row.reason)}];
      if (reason.rows++ == 0) reason = {run.name, std::string(name(row.status)), row.reason, row.id, 1};
    }
  }
  if (by_kind.empty()) return "";
  std::vector<Reason> reasons;
  for (auto& [kind, reason] : by_kind) reasons.push_back(std::move(reason));
  std::ranges::stable_sort(reasons, std::greater(), &Reason::rows);
  TableText table({"run", "status", "reason, of the first such row", "rows", "the first"});
  std::size_t left_out = 0;
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    const Reason& reason = reasons[i];
    if (i >= most_reasons)
      left_out += reason.rows;
    else
      table.row()
          .name(reason.run)
          .text(reason.status)
          .text(reason.text)
          .number(fmt::format("{}", reason.rows))
          .name(reason.id);
  }
  const std::string note =
      left_out == 0 ? ""
                    : fmt::format("<p>Another {} rows for {} rarer reasons: see results.csv.</p>\n", left_out,
                                  reasons.size() - most_reasons);
  return "<h2 id=\"missing\">Skipped, failed and wrong</h2>\n" + table.str() + note;
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

}  // namespace helix
