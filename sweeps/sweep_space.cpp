#include "sweeps/sweep_space.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "roofline/error.hpp"

namespace helix {
namespace {

/// Runs a parser of one entry and names the flag in what it refuses.
template <class Parse>
auto parse_entries(std::string_view text, const std::string& where, Parse parse) {
  std::vector<decltype(parse(std::string{}))> parsed;
  for (const std::string& entry : split_list(text, where)) {
    try {
      const auto value = parse(entry);
      if (std::ranges::find(parsed, value) == parsed.end()) parsed.push_back(value);
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("{}: {}", where, error.what()));
    }
  }
  return parsed;
}

template <Choice SweepSpace::*member, const Quantity& quantity>
void apply_choice(SweepSpace& space, std::string_view text, const std::string& where) {
  space.*member = parse_choice(text, quantity, where);
}

template <std::int64_t SweepSpace::*member, const Quantity& quantity>
void apply_count(SweepSpace& space, std::string_view text, const std::string& where) {
  space.*member = parse_count(text, quantity, where);
}

template <std::vector<DType> SweepSpace::*member>
void apply_dtypes(SweepSpace& space, std::string_view text, const std::string& where) {
  space.*member = parse_entries(text, where, [](const std::string& entry) { return parse_dtype(entry); });
}

void apply_models(SweepSpace& space, std::string_view text, const std::string& where) {
  space.models = split_paths(text, where);
}

void apply_strategies(SweepSpace& space, std::string_view text, const std::string& where) {
  space.strategies =
      parse_entries(text, where, [](const std::string& entry) { return parse_strategy(entry); });
}

void apply_hop_b(SweepSpace& space, std::string_view text, const std::string& where) {
  space.hop_b = parse_entries(text, where, [](const std::string& entry) {
    if (entry == "off") return std::int64_t{1};
    if (entry == "on") return SweepSpace::one_per_request;
    try {
      return parse_count(entry, batch_requests, "");
    } catch (const UsageError&) {
      throw UsageError(
          fmt::format("'{}' is not valid; valid are off, on (one micro-batch per request) and numbers of "
                      "micro-batches from 1 to {}",
                      entry, batch_requests.largest));
    }
  });
}

constexpr auto settings = std::to_array<SpaceSetting>({
    {"model", "", "NAME|FILE,...", "built-in models or Hugging Face config.json files", apply_models},
    {"context", "", "LIST", "cached tokens per request; k = 1024, m = 1024 x 1024",
     apply_choice<&SweepSpace::contexts, context_tokens>},
    {"batch", "", "LIST", "requests of the whole instance",
     apply_choice<&SweepSpace::batches, batch_requests>},
    {"strategy", "", "LIST", "of helix, tp, tp+pp, medha, dp+ep", apply_strategies},
    {"ranks", "", "LIST", "ranks of an instance", apply_choice<&SweepSpace::ranks, rank_count>},
    {"kvp", "cp", "LIST", "KV-parallel width", apply_choice<&SweepSpace::kvp, rank_count>},
    {"tpa", "tp", "LIST", "tensor-parallel width of attention", apply_choice<&SweepSpace::tpa, rank_count>},
    {"tpf", "", "LIST", "tensor-parallel width of the FFN", apply_choice<&SweepSpace::tpf, rank_count>},
    {"ep", "", "LIST", "expert-parallel width", apply_choice<&SweepSpace::ep, rank_count>},
    {"pp", "", "LIST", "pipeline stages", apply_choice<&SweepSpace::pp, rank_count>},
    {"dp", "", "LIST", "data-parallel width of attention", apply_choice<&SweepSpace::dp, rank_count>},
    {"weight-dtype", "", "LIST", "of bf16, fp8, nvfp4, fp4", apply_dtypes<&SweepSpace::weight_dtypes>},
    {"kv-dtype", "", "LIST", "of bf16, fp8, nvfp4, fp4", apply_dtypes<&SweepSpace::kv_dtypes>},
    {"tokens-per-block", "", "N", "tokens of a KV block, the unit of staggered growth",
     apply_count<&SweepSpace::tokens_per_block, block_tokens>},
    {"hop-b", "", "off|on|LIST", "micro-batches that overlap attention and all-to-all", apply_hop_b},
    {"expert-skew", "", "S", "predict with experts whose popularity falls as rank^-S (0: all the same)",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.expert_skew = parse_real(text, 0, 10, where);
     },
     only_predict},
    {"layers", "", "N", "measure N layers and scale to the model's depth",
     apply_count<&SweepSpace::layers, layer_count>, only_measuring},
});

}  // namespace

std::span<const SpaceSetting> space_settings() {
  return settings;
}

}  // namespace helix
