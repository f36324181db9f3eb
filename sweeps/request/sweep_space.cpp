#include "sweeps/request/sweep_space.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

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

template <auto member, const auto& quantity>
void apply_counts(SweepSpace& space, std::string_view text, const std::string& where) {
  space.*member = parse_entries(
      text, where, [&](const std::string& entry) { return parse_count(entry, quantity, where); });
}

/// `fp8,nvfp4` are two requests; `fp8,attention=bf16` is one, a part's type belonging to what stands before
/// it (the checkpoint's own types, if nothing does).
void apply_weight_dtypes(SweepSpace& space, std::string_view text, const std::string& where) {
  std::vector<WeightRequest> requests;
  try {
    for (const std::string& entry : split_list(text, where)) {
      const std::size_t equals = entry.find('=');
      if (equals == entry.npos) {
        requests.push_back(entry == "auto" ? WeightRequest{} : WeightRequest{parse_dtype(entry)});
      } else {
        if (requests.empty()) requests.emplace_back();
        requests.back().set(parse_weight_part(std::string_view(entry).substr(0, equals)),
                            parse_dtype(std::string_view(entry).substr(equals + 1)));
      }
    }
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: {}", where, error.what()));
  }
  space.weight_dtypes.clear();
  for (const WeightRequest& request : requests) {
    if (std::ranges::find(space.weight_dtypes, request) == space.weight_dtypes.end())
      space.weight_dtypes.push_back(request);
  }
}

void apply_kv_dtypes(SweepSpace& space, std::string_view text, const std::string& where) {
  space.kv_dtypes = parse_entries(text, where, [](const std::string& entry) -> std::optional<DType> {
    if (entry == "auto") return std::nullopt;
    return parse_kv_dtype(entry);
  });
}

void apply_models(SweepSpace& space, std::string_view text, const std::string& where) {
  space.models = split_paths(text, where);
}

void apply_strategies(SweepSpace& space, std::string_view text, const std::string& where) {
  if (text == "all") {
    space.strategies.clear();
    for (const StrategyTraits& row : strategies()) space.strategies.push_back(row.strategy);
    return;
  }
  space.strategies =
      parse_entries(text, where, [](const std::string& entry) { return parse_strategy(entry); });
}

void apply_hop_b(SweepSpace& space, std::string_view text, const std::string& where) {
  space.hop_b = parse_entries(text, where, [](const std::string& entry) {
    if (entry == "off") return std::int64_t{1};
    if (entry == "on") return SweepSpace::best_hop_b;
    try {
      return parse_count(entry, batch_requests, "");
    } catch (const UsageError&) {
      throw UsageError(
          fmt::format("'{}' is not valid; valid are off, on (as many pieces as the model finds best) and "
                      "numbers of pieces from 1 to {}",
                      entry, batch_requests.largest));
    }
  });
}

template <class Value>
Value one_of(std::string_view text, const std::string& where, std::pair<const char*, Value> a,
             std::pair<const char*, Value> b) {
  if (text == a.first) return a.second;
  if (text == b.first) return b.second;
  throw UsageError(fmt::format("{} '{}': valid are {}, {}", where, excerpt(text), a.first, b.first));
}

const std::string strategy_help =
    "all, or of " + strategy_names() + "; default helix,tp (predict: all but dcp)";

const auto space_setting_list = std::to_array<SpaceSetting>({
    {"model", "", "NAME|FILE,...", "built-in models or Hugging Face config.json files", apply_models,
     all_but_generate},
    {"context", "", "LIST",
     "cached tokens per request; k = 1024, m = 1024 x 1024; default: the built-in sweep's, with --model 64k "
     "(predict 1m)",
     apply_choice<&SweepSpace::contexts, context_tokens>, all_but_generate},
    {"batch", "", "LIST",
     "requests of the whole instance; default: the built-in sweep's, with --model 1,8 (predict 1:1024)",
     apply_choice<&SweepSpace::batches, batch_requests>, all_but_generate},
    {"strategy", "", "LIST", strategy_help, apply_strategies},
    {"ranks", "", "LIST", "ranks of an instance; default: as many as launched (predict: up to 64)",
     apply_choice<&SweepSpace::ranks, rank_count>},
    {"kvp", "cp", "LIST", "KV-parallel width", apply_choice<&SweepSpace::kvp, rank_count>},
    {"tpa", "tp", "LIST", "tensor-parallel width of attention", apply_choice<&SweepSpace::tpa, rank_count>},
    {"tpf", "", "LIST", "tensor-parallel width of the FFN", apply_choice<&SweepSpace::tpf, rank_count>},
    {"ep", "", "LIST", "expert-parallel width", apply_choice<&SweepSpace::ep, rank_count>},
    {"pp", "", "LIST", "pipeline stages", apply_choice<&SweepSpace::pp, rank_count>},
    {"dp", "", "LIST", "data-parallel width of attention", apply_choice<&SweepSpace::dp, rank_count>},
    {"dcp", "", "LIST", "ranks over which strategy dcp cuts the cache of a TP group (of DCP x TPA ranks)",
     apply_choice<&SweepSpace::dcp, rank_count>},
    {"dcp-merge", "", "ag_rs|a2a",
     "how strategy dcp adds up partial outputs: reduce-scatter after an all-gather of the sums (default), or "
     "all to all",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.dcp_exchange.merge = one_of(text, where, std::pair{"ag_rs", CacheExchange::Merge::ag_rs},
                                         std::pair{"a2a", CacheExchange::Merge::a2a});
     }},
    {"dcp-queries", "", "gathered|replicated",
     "whether strategy dcp gathers the queries that its ranks computed (default) or computes all on each",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.dcp_exchange.queries =
           one_of(text, where, std::pair{"gathered", CacheExchange::Queries::gathered},
                  std::pair{"replicated", CacheExchange::Queries::replicated});
     }},
    {"dcp-project", "", "after|before",
     "whether strategy dcp makes MLA's values of the merged outputs (default) or, on all of its ranks, of "
     "the narrower "
     "ones that they exchange then",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.dcp_exchange.projection =
           one_of(text, where, std::pair{"after", CacheExchange::Projection::after_merge},
                  std::pair{"before", CacheExchange::Projection::before_merge});
     }},
    {"weight-dtype", "", "auto|LIST",
     "of bf16, fp8, nvfp4 (with a scale for each 16 values) (predict only: fp4 flat as papers count, mxfp4, "
     "int8, int4), or PART=T,... of attention, ffn, experts, "
     "shared, router, embedding, head; auto, the default: as the checkpoint stores them",
     apply_weight_dtypes},
    {"kv-dtype", "", "auto|LIST", "of bf16, fp8, nvfp4, fp4; auto, the default: as the checkpoint says",
     apply_kv_dtypes},
    {"kernels", "", "LIST",
     "whose kernels attend the cache: of own (default) and trtllm-gen, each in rows of its own; "
     "helix-bench list kernels says what there is",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.kernels =
           parse_entries(text, where, [](const std::string& entry) { return parse_kernel_maker(entry); });
     },
     sweep_and_verify},
    {"tokens-per-block", "", "N", "tokens of a KV block, the unit of staggered growth; default 32",
     apply_count<&SweepSpace::tokens_per_block, block_tokens>},
    {"hop-b", "", "off|on|LIST",
     "pieces of the batch whose all-to-all overlaps the attention of the next; on: as many as the model "
     "finds best",
     apply_hop_b, all_but_generate},
    {"draft-tokens", "", "LIST",
     "speculative decoding: drafted tokens that a step checks for each request beside its next one; default "
     "0",
     apply_counts<&SweepSpace::draft_tokens, drafted_tokens>, all_but_generate},
    {"acceptance", "", "LIST",
     "tokens that a step with drafts yields in the mean, from 1 to 1 + --draft-tokens; without it such rows "
     "have no "
     "tokens/s",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.acceptances = parse_entries(
           text, where, [&](const std::string& entry) { return parse_real(entry, 1, 64, where); });
     },
     all_but_generate},
    {"draft-kv", "", "sharded|local",
     "whether the model's draft layer attends over all ranks of KVP, as its others do (default), or each of "
     "them to what it holds alone, as in TensorRT-LLM (predict only)",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.draft_kv =
           one_of(text, where, std::pair{"sharded", DraftKv::sharded}, std::pair{"local", DraftKv::local});
     },
     all_but_generate},
    {"draft-model", "", "FILE",
     "config.json of an Eagle-3 head that makes the drafts, in place of the model's draft layer (predict "
     "only)",
     [](SweepSpace& space, std::string_view text, const std::string&) { space.draft_model = text; },
     all_but_generate},
    {"expert-skew", "", "S", "predict with experts whose popularity falls as rank^-S (0: all the same)",
     [](SweepSpace& space, std::string_view text, const std::string& where) {
       space.expert_skew = parse_real(text, 0, 10, where);
     },
     only_predict},
    {"redundant-experts", "", "LIST",
     "copies of the most popular experts that all ranks together hold beside one of each, spread so that "
     "their loads are even; default 0",
     apply_counts<&SweepSpace::redundant_experts, expert_copies>, all_but_generate},
    {"layers", "", "N", "measure N layers and scale to the model's depth",
     apply_count<&SweepSpace::layers, layer_count>, sweep_and_verify},
});

}  // namespace

std::span<const SpaceSetting> space_settings() {
  return space_setting_list;
}

}  // namespace helix
