#include "sweeps/request/sweep_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>

#include "roofline/base/embedded.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/base/yaml_file.hpp"

namespace helix {
namespace {

constexpr Quantity any_seed{0, std::numeric_limits<std::int64_t>::max()};
constexpr Quantity sample_count{1, 1 << 20};
constexpr Quantity alone_of_ranks{2, rank_count.largest};

constexpr Quantity token_count{1, 1 << 20};

void apply_weights(SweepRequest& request, std::string_view text, const std::string& where) {
  request.weights = text;
  std::error_code ignored;
  if (!std::filesystem::is_directory(request.weights, ignored)) {
    throw UsageError(
        fmt::format("{} '{}': no such directory; valid: one with a checkpoint's config.json and safetensors "
                    "files",
                    where, excerpt(text)));
  }
}

/// Numbers apart by commas, blanks, line ends and brackets: a list of JSON, too.
std::vector<std::int32_t> parse_tokens(std::string_view text, const std::string& where) {
  constexpr std::string_view between = ", \t\r\n[]";
  std::vector<std::int32_t> tokens;
  for (std::size_t at = text.find_first_not_of(between); at != text.npos;
       at = text.find_first_not_of(between, at)) {
    const std::string_view word = text.substr(at, text.find_first_of(between, at) - at);
    std::int32_t token = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), token);
    if (error != std::errc() || end != word.data() + word.size() || token < 0) {
      throw UsageError(
          fmt::format("{}: '{}' is no token; valid: numbers of the vocabulary, as scripts/tokens.py makes "
                      "them of a text",
                      where, excerpt(word)));
    }
    tokens.push_back(token);
    at += word.size();
  }
  if (tokens.empty()) throw UsageError(fmt::format("{}: no token is given", where));
  return tokens;
}

void apply_backend(SweepRequest& request, std::string_view text, const std::string& where) {
  if (text != "cpu" && text != "cuda" && text != "auto") {
    throw UsageError(fmt::format("{} '{}': valid are cpu, cuda, auto", where, excerpt(text)));
  }
  request.backend = text;
}

constexpr auto run_setting_list = std::to_array<RunSetting>({
    {"system", "NAME|FILE|auto",
     "system of the prediction; sweep: one, by default auto: calibrate on start; predict: a list, by default "
     "gb200",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.systems = split_paths(text, where);
     },
     all_but_verify},
    {"backend", "cpu|cuda|auto", "what computes; default auto: GPUs if there are any", apply_backend,
     only_measuring},
    {"ttl-budget", "MS", "only points with a token-to-token latency of at most MS milliseconds",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.ttl_budget_ms = parse_real(text, 1e-6, 1e9, where);
     },
     all_but_verify},
    {"memory-fraction", "F", "of each device's memory for weights, KV cache and buffers; default 0.92",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.memory_fraction = parse_real(text, 0.01, 1, where);
     }},
    {"gpu-hour", "USD", "price of a GPU (or rank) and hour, for the column usd_per_mtok",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.bill.usd_per_gpu_hour = parse_real(text, 0, 1e6, where);
     },
     all_but_verify},
    {"power", "W|auto",
     "power of a GPU (or rank), for the column joules_per_token; auto: the data sheet's board power, a bound",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.bill.board_power = text == "auto";
       r.bill.gpu_watts.reset();
       if (!r.bill.board_power) r.bill.gpu_watts = parse_real(text, 1e-3, 1e6, where + " (if not auto)");
     },
     all_but_verify},
    {"engine", "none|trtllm|vllm|sglang",
     "whose steps to predict; none: kernels alone, as for a calibrated machine and for flat fp4, as papers "
     "count",
     [](SweepRequest& r, std::string_view text, const std::string&) { r.engine = parse_engine(text); },
     only_predict},
    {"as-rank-of", "N",
     "one rank runs the part of rank 0 of N ranks; what all of them exchange is predicted: needs --system",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.as_rank_of = static_cast<int>(parse_count(text, alone_of_ranks, where));
     },
     only_sweep},
    {"max-time", "S",
     "stop sampling a configuration after S seconds, or after its least samples, which may take 10 times S",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.stopping.max_time_s = parse_real(text, 1e-3, 1e6, where);
     },
     only_sweep},
    {"min-samples", "N", "decode steps to sample at least",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.stopping.min_samples = static_cast<std::size_t>(parse_count(text, sample_count, where));
     },
     only_sweep},
    {"rel-error", "E", "stop at this relative standard error of the median (0.005 is 0.5 %)",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.stopping.relative_error = parse_real(text, 1e-6, 1.0, where);
     },
     only_sweep},
    {"stall-timeout", "S",
     "end the run if no rank makes progress for S seconds; 0: wait for ever; default 120",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.stall_timeout_s = parse_real(text, 0, 1e6, where);
     },
     only_measuring},
    {"seed", "N", "of weights and KV history; default 1",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.seed = static_cast<std::uint64_t>(parse_count(text, any_seed, where));
     },
     only_measuring},
    {"weights", "DIR", "a Hugging Face checkpoint: config.json, which is the model, and safetensors files",
     apply_weights, only_measuring},
    {"prompt-tokens", "LIST", "the text as tokens of the vocabulary: 1,2,3; verify: with --weights",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.prompt = parse_tokens(text, where);
     },
     only_text},
    {"prompt-file", "FILE", "the same from a file, as scripts/tokens.py writes it",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.prompt =
           parse_tokens(read_text_file(std::string(text), "prompt file"), fmt::format("{} {}", where, text));
     },
     only_text},
    {"max-new-tokens", "N", "tokens to generate at most; default 32",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.max_new_tokens = parse_count(text, token_count, where);
     },
     only_generate},
    {"temperature", "T",
     "draw tokens by their probability, logits divided by T; default 0: the most likely one",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.sampling.temperature = parse_real(text, 0, 100, where);
     },
     only_generate},
    {"top-p", "P", "of the most likely tokens only those that have probability P together; default 1",
     [](SweepRequest& r, std::string_view text, const std::string& where) {
       r.sampling.top_p = parse_real(text, 1e-6, 1, where);
     },
     only_generate},
});

/// A scalar, or a sequence of scalars as a LIST.
std::string list_text(const YAML::Node& node, const std::string& where) {
  if (node.IsScalar()) return node.Scalar();
  std::string text;
  if (node.IsSequence()) {
    for (const auto& entry : node) {
      if (!entry.IsScalar())
        throw UsageError(fmt::format("{}: valid are a value or a list of values", where));
      text += (text.empty() ? "" : ",") + entry.Scalar();
    }
  }
  if (text.empty()) throw UsageError(fmt::format("{}: valid are a value or a list of values", where));
  return text;
}

std::string key_of(const YAML::Node& node, const std::string& origin) {
  if (!node.IsScalar()) throw UsageError(fmt::format("{}: a key is no plain word", origin));
  std::string key = node.Scalar();
  std::ranges::replace(key, '_', '-');
  return key;
}

template <class Setting>
const Setting* find_setting(std::span<const Setting> known, std::string_view key) {
  for (const Setting& setting : known) {
    if (setting.name == key) return &setting;
    if constexpr (requires { setting.alias; }) {
      if (!key.empty() && setting.alias == key) return &setting;
    }
  }
  return nullptr;
}

UsageError unknown_key(const std::string& key, const std::string& origin, bool in_block) {
  std::string valid;
  for (const SpaceSetting& s : space_settings()) valid += fmt::format("{}, ", s.name);
  if (!in_block) {
    for (const RunSetting& s : run_settings()) valid += fmt::format("{}, ", s.name);
    valid += "sweeps, ";
  }
  valid.resize(valid.size() - 2);
  return UsageError(fmt::format("{}: unknown key '{}'; valid: {}", origin, excerpt(key), valid));
}

void apply_block(const YAML::Node& node, const std::string& origin, SweepSpace& block) {
  if (!node.IsMap()) throw UsageError(fmt::format("{}: an entry of 'sweeps' is not a mapping", origin));
  for (const auto& entry : node) {
    const std::string key = key_of(entry.first, origin);
    const auto* setting = find_setting(space_settings(), key);
    if (!setting) throw unknown_key(key, origin, true);
    const std::string where = fmt::format("{}: {}", origin, key);
    setting->apply(block, list_text(entry.second, where), where);
  }
}

}  // namespace

std::span<const RunSetting> run_settings() {
  return run_setting_list;
}

void parse_sweep(std::string_view yaml, const std::string& origin, SweepRequest& request) {
  const YAML::Node root = parse_yaml_map(yaml, origin);
  SweepSpace common;
  YAML::Node blocks;
  for (const auto& entry : root) {
    const std::string key = key_of(entry.first, origin);
    const std::string where = fmt::format("{}: {}", origin, key);
    if (key == "sweeps") {
      blocks = entry.second;
    } else if (const auto* of_space = find_setting(space_settings(), key)) {
      of_space->apply(common, list_text(entry.second, where), where);
    } else if (const auto* of_run = find_setting(run_settings(), key)) {
      of_run->apply(request, list_text(entry.second, where), where);
    } else {
      throw unknown_key(key, origin, false);
    }
  }
  if (!root["sweeps"].IsDefined()) {
    request.blocks = {common};
  } else {
    if (!blocks.IsSequence() || blocks.size() == 0)
      throw UsageError(fmt::format("{}: 'sweeps' is not a list", origin));
    request.blocks.clear();
    for (const auto& node : blocks) {
      request.blocks.push_back(common);
      apply_block(node, origin, request.blocks.back());
    }
  }
}

void load_sweep(const std::string& name_or_path, SweepRequest& request) {
  for (const EmbeddedFile& preset : embedded_sweeps()) {
    if (preset.name == name_or_path)
      return parse_sweep(preset.text, fmt::format("sweep {}", preset.name), request);
  }
  std::error_code error;
  if (!std::filesystem::exists(name_or_path, error)) {
    throw UsageError(
        fmt::format("--sweep '{}': no such file, and no built-in sweep of this name; built in: {}",
                    name_or_path, fmt::join(built_in_sweeps(), ", ")));
  }
  parse_sweep(read_text_file(name_or_path, "sweep file"), name_or_path, request);
}

std::vector<std::string> built_in_sweeps() {
  std::vector<std::string> names;
  for (const EmbeddedFile& preset : embedded_sweeps()) names.emplace_back(preset.name);
  return names;
}

}  // namespace helix
