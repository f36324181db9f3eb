#include "sweeps/request/speculation.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"

namespace helix {

std::vector<std::pair<int, double>> speculations(const SweepSpace& space) {
  std::vector<std::pair<int, double>> all;
  for (const std::int64_t drafts : space.draft_tokens) {
    const auto tokens = static_cast<int>(drafts);
    if (tokens == 0) {
      all.emplace_back(0, 1.0);
    } else if (space.acceptances.empty()) {
      all.emplace_back(tokens, 0.0);
    }
    for (const double acceptance : space.acceptances) {
      if (tokens > 0 && acceptance <= real(1 + drafts)) all.emplace_back(tokens, acceptance);
    }
  }
  return all;
}

void refuse_unmet_acceptances(const SweepSpace& space) {
  if (space.acceptances.empty()) return;
  const auto most_drafts = static_cast<double>(std::ranges::max(space.draft_tokens));
  const double least = std::ranges::min(space.acceptances), most = std::ranges::max(space.acceptances);
  for (const std::int64_t drafts : space.draft_tokens) {
    if (drafts > 0 && least > real(1 + drafts)) {
      throw UsageError(fmt::format("--acceptance {:g}: a step with --draft-tokens {} yields from 1 to {}",
                                   least, drafts, 1 + drafts));
    }
  }
  if (most_drafts == 0)
    throw UsageError("--acceptance: is that of drafts; valid with --draft-tokens of 1 or more");
  if (most > 1 + most_drafts) {
    throw UsageError(fmt::format("--acceptance {:g}: a step with --draft-tokens {} yields from 1 to {}", most,
                                 most_drafts, 1 + most_drafts));
  }
}

}  // namespace helix
