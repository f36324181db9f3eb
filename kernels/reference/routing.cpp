#include "kernels/reference/routing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace helix::reference {
namespace {

/// Indices of the values in falling order, lower ones of equals first.
std::vector<std::int32_t> falling_order(const Vector& values) {
  std::vector<std::int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
  });
  return order;
}

/// What experts are chosen by. softmax_topk: one group of all experts.
struct Ballot {
  Vector choice;        // per expert
  Vector group_scores;  // per group
  std::int64_t top_k = 0, top_groups = 1;

  std::size_t group_size() const { return choice.size() / group_scores.size(); }
  std::size_t group_of(std::int32_t expert) const { return static_cast<std::size_t>(expert) / group_size(); }

  /// The top_k best of the experts whose groups are `kept`.
  std::vector<std::int32_t> best(const std::vector<bool>& kept) const {
    std::vector<std::int32_t> chosen;
    for (const std::int32_t e : falling_order(choice)) {
      if (kept[group_of(e)] && std::ssize(chosen) < top_k) chosen.push_back(e);
    }
    return chosen;
  }
};

double sum_of_best(std::ptrdiff_t count, Vector members) {
  const auto end = members.begin() + std::min(count, std::ssize(members));
  std::partial_sort(members.begin(), end, members.end(), std::greater<>());
  return std::accumulate(members.begin(), end, 0.0);
}

Vector softmax(Vector logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (double& x : logits) sum += x = std::exp(x - largest);
  for (double& x : logits) x /= sum;
  return logits;
}

/// The weights of all experts before they are scaled.
Vector scores(const MoeSpec& moe, Vector logits) {
  if (moe.router != RouterKind::sigmoid_grouped) return softmax(std::move(logits));
  for (double& x : logits) x = sigmoid(x);
  return logits;
}

Ballot hold_ballot(const MoeSpec& moe, const Vector& logits, const std::vector<float>& bias) {
  Ballot ballot{.choice = logits, .group_scores = {0.0}, .top_k = moe.top_k};
  if (moe.router == RouterKind::softmax_topk) return ballot;
  ballot.choice = scores(moe, logits);
  for (std::size_t e = 0; e < bias.size(); ++e) ballot.choice[e] += static_cast<double>(bias[e]);
  ballot.top_groups = moe.top_groups;
  ballot.group_scores.assign(static_cast<std::size_t>(moe.groups), 0.0);
  const auto size = static_cast<std::ptrdiff_t>(ballot.group_size());
  for (std::size_t g = 0; g < ballot.group_scores.size(); ++g) {
    const auto first = ballot.choice.begin() + static_cast<std::ptrdiff_t>(g) * size;
    ballot.group_scores[g] =
        sum_of_best(moe.router == RouterKind::sigmoid_grouped ? 2 : 1, {first, first + size});
  }
  return ballot;
}

/// Twice what a choice may be off by when each logit may be off by half of `tolerance`.
double tolerance_of_choices(const MoeSpec& moe, const Vector& logits, double tolerance) {
  switch (moe.router) {
    case RouterKind::softmax_topk:
      return tolerance;  // they are the logits
    case RouterKind::softmax_grouped: {
      // As one logit rises and all others fall, its odds grow by exp(tolerance); the slope over them is 1/4 at most.
      const Vector p = softmax(logits);
      return std::min(tolerance / 2, 2 * *std::max_element(p.begin(), p.end()) * std::expm1(tolerance));
    }
    case RouterKind::sigmoid_grouped:
      return tolerance / 4;  // its slope at most
  }
  return tolerance;
}

std::vector<bool> best_groups(const Ballot& ballot) {
  std::vector<bool> kept(ballot.group_scores.size(), false);
  const auto order = falling_order(ballot.group_scores);
  for (std::int64_t i = 0; i < ballot.top_groups; ++i) {
    kept[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = true;
  }
  return kept;
}

/// Why `given` is no possible choice when every `choice` may be off by up to half of `tolerance`; empty if it
/// is one.
std::string why_impossible(const Ballot& ballot, std::span<const std::int32_t> given, double tolerance) {
  const auto experts = static_cast<std::int32_t>(ballot.choice.size());
  if (std::ssize(given) != ballot.top_k)
    return fmt::format("{} experts chosen, not {}", given.size(), ballot.top_k);
  std::vector<std::int32_t> sorted(given.begin(), given.end());
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return "an expert is chosen twice";
  if (sorted.front() < 0 || sorted.back() >= experts) return "an expert that does not exist is chosen";

  // Groups. The two best choices add up, so their errors do too.
  const auto order = falling_order(ballot.group_scores);
  const auto score_at = [&](std::int64_t rank) {
    return rank < std::ssize(order)
               ? ballot.group_scores[static_cast<std::size_t>(order[static_cast<std::size_t>(rank)])]
               : -std::numeric_limits<double>::infinity();
  };
  const double last_kept = score_at(ballot.top_groups - 1), first_dropped = score_at(ballot.top_groups);
  std::vector<bool> kept(ballot.group_scores.size(), false);
  for (const std::int32_t e : given) kept[ballot.group_of(e)] = true;
  if (std::count(kept.begin(), kept.end(), true) > ballot.top_groups)
    return "experts of too many groups are chosen";
  for (std::size_t g = 0; g < kept.size(); ++g) {
    const double score = ballot.group_scores[g];
    if (kept[g] && !(score >= last_kept - 2 * tolerance)) {
      return fmt::format("group {} scores {:.4f}, the last one kept {:.4f}", g, score, last_kept);
    }
    if (score > first_dropped + 2 * tolerance) kept[g] = true;  // beyond doubt
  }

  std::int32_t best_left_out = -1;
  for (const std::int32_t e : falling_order(ballot.choice)) {
    if (kept[ballot.group_of(e)] && !std::binary_search(sorted.begin(), sorted.end(), e)) {
      best_left_out = e;
      break;
    }
  }
  for (const std::int32_t e : given) {
    const double choice = ballot.choice[static_cast<std::size_t>(e)];
    const double left_out = best_left_out < 0 ? -std::numeric_limits<double>::infinity()
                                              : ballot.choice[static_cast<std::size_t>(best_left_out)];
    if (!(choice >= left_out - tolerance)) {
      return fmt::format("expert {} scores {:.4f}, but {} with {:.4f} is left out", e, choice, best_left_out,
                         left_out);
    }
  }
  return {};
}

/// softmax_topk adds it to the logits themselves.
void add_bias_of_logits(const MoeSpec& moe, const std::vector<float>& bias, Vector& logits) {
  if (moe.router == RouterKind::softmax_topk && !bias.empty())
    for (std::size_t e = 0; e < logits.size(); ++e) logits[e] += static_cast<double>(bias[e]);
}

}  // namespace

std::string routing_problem(const MoeSpec& moe, Vector logits, const std::vector<float>& bias,
                            std::span<const std::int32_t> given, double tolerance) {
  add_bias_of_logits(moe, bias, logits);
  return why_impossible(hold_ballot(moe, logits, bias), given, tolerance_of_choices(moe, logits, tolerance));
}

Routing route(const MoeSpec& moe, Vector logits, const std::vector<float>& bias,
              std::span<const std::int32_t> given, double tolerance) {
  add_bias_of_logits(moe, bias, logits);
  const Ballot ballot = hold_ballot(moe, logits, bias);
  Routing routing;
  if (!given.empty())
    routing.problem = why_impossible(ballot, given, tolerance_of_choices(moe, logits, tolerance));
  if (given.empty() || !routing.problem.empty()) {
    routing.experts = ballot.best(best_groups(ballot));
  } else {
    routing.experts.assign(given.begin(), given.end());
  }

  const Vector weights = scores(moe, std::move(logits));
  double sum = 0.0;
  for (const std::int32_t e : routing.experts) {
    routing.weights.push_back(weights[static_cast<std::size_t>(e)]);
    sum += routing.weights.back();
  }
  const double factor = moe.routed_scaling / (moe.normalize_top_k ? sum + 1e-20 : 1.0);
  for (double& w : routing.weights) w *= factor;
  return routing;
}

}  // namespace helix::reference
