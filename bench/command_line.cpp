#include "bench/command_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "roofline/error.hpp"
#include "sweeps/enumerate.hpp"
#include "sweeps/mpi_session.hpp"
#include "sweeps/sweep_file.hpp"
#include "sweeps/trtllm_config.hpp"

namespace helix {
namespace {

bool is_negative_number(const std::string& text) {
  return text.size() > 1 && text[0] == '-' &&
         (std::isdigit(static_cast<unsigned char>(text[1])) != 0 || text[1] == '.');
}

/// CLI11 takes `-5` for a flag: as `--context=-5` it reaches our parser, whose message says what is valid.
Arguments join_negative_values(const Arguments& arguments) {
  Arguments joined;
  for (const std::string& argument : arguments) {
    if (is_negative_number(argument) && !joined.empty() && joined.back().starts_with("--") &&
        joined.back().find('=') == std::string::npos) {
      joined.back() += "=" + argument;
    } else {
      joined.push_back(argument);
    }
  }
  return joined;
}

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

std::string valid_flags(const CLI::App& app) {
  std::string names;
  for (const CLI::Option* option : app.get_options())
    names += (names.empty() ? "" : " ") + option->get_name();
  return names;
}

}  // namespace

bool parse_or_help(CLI::App& app, const Arguments& arguments) {
  Arguments reversed = join_negative_values(arguments);
  std::ranges::reverse(reversed);
  try {
    app.parse(reversed);
    return false;
  } catch (const CLI::CallForHelp&) {
    if (launched_rank() == 0) std::fputs(app.help().c_str(), stdout);
    return true;
  } catch (const CLI::ExtrasError&) {
    throw UsageError(fmt::format("{}: unknown argument '{}'; valid: {}", app.get_name(),
                                 fmt::join(app.remaining(), " "), valid_flags(app)));
  } catch (const CLI::ParseError& error) {
    throw UsageError(one_line(error.what()));
  }
}

RequestFlags::RequestFlags(CLI::App& app) : app_(app) {
  const auto add_valued = [&](std::string_view name, std::string_view alias, std::string_view value,
                              std::string_view help) {
    std::string flags = fmt::format("--{}", name);
    if (!alias.empty()) flags += fmt::format(",--{}", alias);
    app.add_option(flags, values_[std::string(name)], std::string(help))->type_name(std::string(value));
  };
  for (const SpaceSetting& s : space_settings()) add_valued(s.name, s.alias, s.value, s.help);
  for (const RunSetting& s : run_settings()) add_valued(s.name, "", s.value, s.help);
  app.add_option("--sweep", sweep_, "all of the above from a built-in sweep or a YAML file; flags win")
      ->type_name("NAME|FILE");
  app.add_option("--trtllm-config", trtllm_config_,
                 "widths, batch and context from a TensorRT-LLM configuration (JSON or YAML)")
      ->type_name("FILE");
  app.add_option("--out", out_, "run directory (default: a new one under results/)")->type_name("DIR");
  app.add_flag("--resume", resume_, "continue the run in --out");
  app.add_flag("--quiet", quiet_, "no table and no progress");
  auto* json = app.add_flag("--json", json_, "print rows as JSON");
  auto* lines =
      app.add_flag("--json-lines", json_lines_, "print each row as a line of JSON as soon as it is there")
          ->excludes(json);
  app.add_flag("--csv", csv_, "print rows as CSV")->excludes(json)->excludes(lines);
}

void RequestFlags::apply_trtllm_config(SweepRequest& request) const {
  std::vector<std::string> unread;
  for (SweepSpace& block : request.blocks) unread = load_trtllm_config(trtllm_config_, block);
  if (unread.empty() || launched_rank() != 0) return;
  fmt::print(stderr, "helix-bench: {}: not used: {}\n", trtllm_config_, fmt::join(unread, ", "));
}

SweepRequest RequestFlags::request(const std::string& default_sweep, const Arguments& arguments) const {
  const auto given = [&](std::string_view flag) { return app_.count(fmt::format("--{}", flag)) > 0; };
  SweepRequest request;
  request.blocks.resize(1);
  if (given("sweep")) {
    load_sweep(sweep_, request);
  } else if (!given("model")) {
    load_sweep(default_sweep, request);
  }
  if (given("trtllm-config")) apply_trtllm_config(request);
  for (SweepSpace& block : request.blocks) {
    for (const SpaceSetting& setting : space_settings()) {
      const std::string name(setting.name);
      if (given(name)) setting.apply(block, values_.at(name), "--" + name);
    }
    if (block.models.empty()) {
      throw UsageError(
          fmt::format("no model: --model NAME or the key 'model' in the sweep file; built in: {}",
                      fmt::join(built_in_models(), ", ")));
    }
  }
  for (const RunSetting& setting : run_settings()) {
    const std::string name(setting.name);
    if (given(name)) setting.apply(request, values_.at(name), "--" + name);
  }
  if (given("out") && out_.empty()) throw UsageError("--out '': valid: a directory");
  if (resume_ && out_.empty()) throw UsageError("--resume: needs --out DIR, the run directory to continue");
  load_models(request.blocks);

  request.out = out_;
  request.resume = resume_;
  request.quiet = quiet_;
  request.output = json_         ? OutputFormat::json
                   : json_lines_ ? OutputFormat::json_lines
                   : csv_        ? OutputFormat::csv
                                 : OutputFormat::table;
  request.command_line = {"helix-bench", app_.get_name()};
  request.command_line.insert(request.command_line.end(), arguments.begin(), arguments.end());
  return request;
}

}  // namespace helix
