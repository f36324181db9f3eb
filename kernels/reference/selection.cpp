#include "kernels/reference/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace helix::reference {
namespace {

std::vector<bool> own_choice(const Vector& scores, std::int64_t top_k) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(top_k)));
  std::vector<bool> attended(scores.size(), false);
  for (const std::size_t token : order) attended[token] = true;
  return attended;
}

double deviation(const Vector& scores) {
  const auto n = static_cast<double>(scores.size());
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / n;
  double squares = 0.0;
  for (const double score : scores) squares += (score - mean) * (score - mean);
  return std::sqrt(squares / n);
}

}  // namespace

std::string selection_problem(const Vector& scores, std::int64_t top_k, const std::vector<bool>& given,
                              double tolerance) {
  const std::int64_t count = std::ranges::count(given, true);
  const std::int64_t expected = std::min(top_k, std::ssize(scores));
  if (given.size() != scores.size())
    return fmt::format("a choice of {} tokens, not {}", given.size(), scores.size());
  if (count != expected) return fmt::format("{} tokens chosen, not {}", count, expected);
  std::size_t worst = 0, best_left_out = 0;
  double lowest = std::numeric_limits<double>::infinity(), highest = -lowest;
  for (std::size_t t = 0; t < scores.size(); ++t) {
    if (given[t] && scores[t] < lowest) lowest = scores[worst = t];
    if (!given[t] && scores[t] > highest) highest = scores[best_left_out = t];
  }
  if (lowest >= highest - tolerance) return {};
  return fmt::format("token {} scores {:.4g}, but {} with {:.4g} is left out", worst, lowest, best_left_out,
                     highest);
}

Selection select_tokens(const Vector& scores, std::int64_t top_k, const std::vector<bool>& given,
                        double tolerance) {
  Selection selection;
  if (!given.empty())
    selection.problem = selection_problem(scores, top_k, given, tolerance * deviation(scores));
  selection.attended = given.empty() || !selection.problem.empty() ? own_choice(scores, top_k) : given;
  return selection;
}

}  // namespace helix::reference
