#include "bench/command_line.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/base/spelling.hpp"
#include "sweeps/export/trtllm_config.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_file.hpp"

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

/// The commands that use a flag, "sweep, verify"; empty if none does.
std::string users_of(std::string_view flag) {
  std::string names;
  const auto note = [&](const Commands& used_by) {
    for (const auto& [command, name] :
         {std::pair{Command::sweep, "sweep"}, std::pair{Command::verify, "verify"},
          std::pair{Command::predict, "predict"}, std::pair{Command::generate, "generate"}}) {
      if (used_by.contains(command)) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
    }
  };
  for (const SpaceSetting& s : space_settings()) {
    if (flag == s.name || (!s.alias.empty() && flag == s.alias)) note(s.used_by);
  }
  for (const RunSetting& s : run_settings()) {
    if (flag == s.name) note(s.used_by);
  }
  if (flag == "out") note(all_but_verify);
  if (flag == "resume") note(only_sweep);
  if (flag == "top" || flag == "validate" || flag == "bench") note(only_predict);
  return names;
}

/// What to say of an argument that the command does not know.
std::string unknown_argument(const CLI::App& app, const std::string& argument) {
  const std::string name = argument.substr(0, argument.find('='));
  if (!name.starts_with("--")) {
    return fmt::format("{}: unknown argument '{}'; valid: {}", app.get_name(), argument, valid_flags(app));
  }
  if (const std::string users = users_of(name.substr(2)); !users.empty()) {
    return fmt::format("{}: {} is of no use here and would be ignored; valid with: {}", app.get_name(), name,
                       users);
  }
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options())
    known.insert(known.end(), option->get_lnames().begin(), option->get_lnames().end());
  const std::string nearest = nearest_spelling(name.substr(2), known);
  if (!nearest.empty()) {
    return fmt::format("{}: unknown flag '{}'; did you mean --{}? helix-bench {} --help lists the flags",
                       app.get_name(), name, nearest, app.get_name());
  }
  return fmt::format("{}: unknown flag '{}'; valid: {}", app.get_name(), name, valid_flags(app));
}

}  // namespace

namespace {

std::string help_of(const CLI::App& app) {
  std::string help = app.help();
  const std::string usage = "Usage: ";
  if (const auto at = help.find(usage); at != std::string::npos)
    help.insert(at + usage.size(), "helix-bench ");
  return help;
}

}  // namespace

bool parse_or_help(CLI::App& app, const Arguments& arguments) {
  Arguments reversed = join_negative_values(arguments);
  std::ranges::reverse(reversed);
  try {
    app.parse(reversed);
    return false;
  } catch (const CLI::CallForHelp&) {
    if (launched_rank() == 0) std::fputs(help_of(app).c_str(), stdout);
    return true;
  } catch (const CLI::ExtrasError&) {
    throw UsageError(unknown_argument(app, app.remaining().front()));
  } catch (const CLI::ParseError& error) {
    throw UsageError(one_line(error.what()));
  }
}

RequestFlags::RequestFlags(CLI::App& app, Command command) : app_(app), command_(command) {
  const auto add_valued = [&](std::string_view name, std::string_view alias, std::string_view value,
                              std::string_view help) {
    std::string flags = fmt::format("--{}", name);
    if (!alias.empty()) flags += fmt::format(",--{}", alias);
    app.add_option(flags, values_[std::string(name)], std::string(help))->type_name(std::string(value));
  };
  for (const SpaceSetting& s : space_settings()) {
    if (s.used_by.contains(command)) add_valued(s.name, s.alias, s.value, s.help);
  }
  for (const RunSetting& s : run_settings()) {
    if (s.used_by.contains(command)) add_valued(s.name, "", s.value, s.help);
  }
  app.add_flag("--quiet", quiet_, "no table and no progress");
  auto* json = app.add_flag("--json", json_, "print rows as JSON");
  if (command == Command::generate) return;
  app.add_option("--sweep", sweep_, "all of the above from a built-in sweep or a YAML file; flags win")
      ->type_name("NAME|FILE");
  app.add_option("--trtllm-config", trtllm_config_,
                 "widths, batch and context from a TensorRT-LLM configuration (JSON or YAML)")
      ->type_name("FILE");
  if (command == Command::sweep) {
    app.add_option("--out", out_, "run directory (default: a new one under results/)")->type_name("DIR");
    app.add_flag("--resume", resume_, "continue the run in --out: with the flags that it began with");
  } else if (command == Command::predict) {
    app.add_option("--out", out_, "also write a run directory")->type_name("DIR");
  }
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

void RequestFlags::refuse_beside_weights(const std::function<bool(std::string_view)>& given) const {
  if (given("model")) throw UsageError("--model: with --weights the model is that of its config.json");
  if (given("prompt-tokens") && given("prompt-file"))
    throw UsageError("--prompt-file: the text is in --prompt-tokens");
  if (command_ != Command::verify) return;
  for (const char* flag : {"context", "batch", "layers", "hop-b"}) {
    if (given(flag))
      throw UsageError(fmt::format(
          "--{}: with --weights verify decodes one text from its beginning, in all layers", flag));
  }
}

SweepRequest RequestFlags::request(const std::string& default_sweep, const Arguments& arguments) const {
  const auto given = [&](std::string_view flag) {
    const CLI::Option* option = app_.get_option_no_throw(fmt::format("--{}", flag));
    return option && option->count() > 0;
  };
  SweepRequest request;
  request.blocks.resize(1);
  if (given("sweep")) {
    load_sweep(sweep_, request);
  } else if (!given("model") && !given("weights")) {
    load_sweep(default_sweep, request);
  }
  if (given("trtllm-config")) apply_trtllm_config(request);
  for (const RunSetting& setting : run_settings()) {
    const std::string name(setting.name);
    if (given(name)) setting.apply(request, values_.at(name), "--" + name);
  }
  if (!request.weights.empty()) {
    refuse_beside_weights(given);
    for (SweepSpace& block : request.blocks) block.models = {request.weights / "config.json"};
  }
  for (SweepSpace& block : request.blocks) {
    for (const SpaceSetting& setting : space_settings()) {
      const std::string name(setting.name);
      if (given(name)) setting.apply(block, values_.at(name), "--" + name);
    }
    // A sweep file may hold what other commands use.
    if (command_ == Command::predict) block.layers = 0;
    if (command_ != Command::predict) block.expert_skew = 0;
    if (block.models.empty()) {
      throw UsageError(
          fmt::format("no model: --model NAME or the key 'model' in the sweep file; built in: {}",
                      fmt::join(built_in_models(), ", ")));
    }
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
