#include "sweeps/measure/draft_check.hpp"

#include <fmt/format.h>

#include <numbers>

namespace helix {

DraftCheck::DraftCheck(const DecodeEngine& engine, const StepRecord& record,
                       std::span<const std::int32_t> checked, MPI_Comm instance)
    : record_(record),
      checked_(checked),
      hidden_(engine.instance().model().hidden),
      query_tokens_(engine.instance().shape().query_tokens()) {
  for (std::int64_t run = 0; run + 1 < query_tokens_; ++run)
    routing_.push_back(draft_routing_of(engine, run, instance));
  if (!routing_.front().empty()) top_k_ = engine.instance().model().moe.top_k;
}

void DraftCheck::compare(std::int64_t step, Follower& follower, std::span<const std::int32_t> chosen,
                         StepComparison& comparison) const {
  const std::int64_t request = follower.request, runs = query_tokens_ - 1;
  const auto drafts =
      checked_.subspan(static_cast<std::size_t>(request * query_tokens_ + 1), static_cast<std::size_t>(runs));
  std::vector<reference::LayerChoice> choices;
  const auto choose = [&](std::int64_t run, std::int64_t row) {
    const auto ids = routing_[static_cast<std::size_t>(run)].begin() + row * top_k_;
    choices.push_back({.experts = {ids, ids + top_k_}, .tokens = {}});
  };
  for (std::int64_t row = 0; row < std::ssize(chosen); ++row) choose(0, request * query_tokens_ + row);
  for (std::int64_t run = 1; run < runs; ++run) choose(run, request);

  std::vector<ExpectedStep> expected(static_cast<std::size_t>(runs));
  if (follower.reference) {
    const std::vector<reference::ReferenceStep> exact = follower.reference->draft(chosen, drafts, choices);
    for (std::size_t run = 0; run < expected.size(); ++run) expected[run].exact = exact[run];
  }
  if (follower.rounded) {
    const std::vector<reference::ReferenceStep> rounded = follower.rounded->draft(chosen, drafts, choices);
    for (std::size_t run = 0; run < expected.size(); ++run) expected[run].rounded = rounded[run];
  }
  // Half of what a run sees is exact, an embedding, and half what a step or a run before it left, with its error: with
  // an own one of e, that of runs tends to the root of e^2 + e^2 / 2 + e^2 / 4 ...
  constexpr double inherited = std::numbers::sqrt2;
  for (std::int64_t run = 0; run < runs; ++run) {
    const auto at = static_cast<std::size_t>(run), width = static_cast<std::size_t>(hidden_);
    const std::size_t row = run == 0 ? chosen.size() - 1 : 0;
    ProducedStep produced{.logits = record_.draft_logits(run, request), .token = drafts[at]};
    for (const bool ffn : {false, true}) {
      const std::span<const BF16> rows = record_.draft_row(run, ffn, request);
      produced.blocks.push_back({ffn ? "FFN of the draft layer" : "attention of the draft layer",
                                 rows.empty() ? rows : rows.subspan(row * width, width)});
    }
    comparison.compare(fmt::format("request {}, step {}, draft {}: ", request, step, run + 1), produced,
                       expected[at], follower.owner, inherited);
  }
}

}  // namespace helix
