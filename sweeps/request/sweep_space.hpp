// What a sweep asks for: the lists whose legal combinations are measured or predicted.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "roofline/base/dtype.hpp"
#include "roofline/step/sharding.hpp"
#include "roofline/step/weight_request.hpp"
#include "sweeps/common/list_syntax.hpp"

namespace helix {

struct SweepSpace {
  std::vector<std::string> models;  // built-in names or paths of config.json files
  Choice contexts, batches;
  std::vector<Strategy> strategies;  // empty: the command's choice
  Choice ranks, kvp, tpa, tpf, ep, pp, dp, dcp;
  /// Of strategies whose KVP is an engine's DCP; vLLM's defaults.
  CacheExchange dcp_exchange{.queries = CacheExchange::Queries::gathered,
                             .merge = CacheExchange::Merge::ag_rs};
  std::vector<WeightRequest> weight_dtypes{WeightRequest{}};
  std::vector<std::optional<DType>> kv_dtypes{std::nullopt};  // nothing: as the checkpoint has it
  std::vector<KernelMaker> kernels{KernelMaker::own};
  std::int64_t tokens_per_block = 32;
  std::vector<std::int64_t> hop_b;  // pieces, 1: off; empty: the command's choice
  std::vector<std::int64_t> draft_tokens{0};
  std::vector<double> acceptances;  // none: not known, but for steps without drafts
  DraftKv draft_kv = DraftKv::sharded;
  std::string draft_model;  // path of an Eagle-3 head's config.json, "": the models' own draft layers
  double expert_skew = 0;   // Zipf exponent of the experts' popularity; predicted, not measured
  /// Copies of experts beyond one of each; or, of the configurations of engines that count them so, how many there are
  /// of all experts together.
  std::vector<std::int64_t> redundant_experts{0};
  std::int64_t expert_slots = 0;
  std::int64_t layers = 0;  // layers to measure, 0: all of the model

  /// HOP-B with the number of pieces that the model likes best.
  static constexpr std::int64_t best_hop_b = 0;
};

/// The commands that take a request; what one has no use for is none of its flags.
enum class Command { sweep, verify, predict, generate };
/// A set of them.
struct Commands {
  bool sweep = true, verify = true, predict = true, generate = true;
  bool contains(Command command) const {
    switch (command) {
      case Command::sweep:
        return sweep;
      case Command::verify:
        return verify;
      case Command::predict:
        return predict;
      case Command::generate:
        return generate;
    }
    return false;
  }
};
inline constexpr Commands only_measuring{.predict = false};  // what runs an engine
inline constexpr Commands only_sweep{.verify = false, .predict = false, .generate = false};
inline constexpr Commands only_predict{.sweep = false, .verify = false, .generate = false};
inline constexpr Commands only_generate{.sweep = false, .verify = false, .predict = false};
inline constexpr Commands only_text{.sweep = false, .predict = false};
inline constexpr Commands all_but_verify{.verify = false, .generate = false};
inline constexpr Commands all_but_generate{.generate = false};
inline constexpr Commands sweep_and_verify{.predict = false, .generate = false};

/// One quantity of a sweep: a flag `--name VALUE` and the key `name` of a sweep file, with the same syntax.
struct SpaceSetting {
  std::string_view name, alias, value, help;
  /// `where` names the flag or key in a UsageError.
  void (*apply)(SweepSpace& space, std::string_view text, const std::string& where);
  Commands used_by{};
};
std::span<const SpaceSetting> space_settings();

}  // namespace helix
