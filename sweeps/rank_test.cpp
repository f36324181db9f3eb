#include "sweeps/rank_test.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <utility>

namespace helix {
namespace {

struct RankSum {
  double u;         // pairs (x in a, y in b) with x > y, a tie counting half
  double tie_term;  // sum of t^3 - t over groups of t equal values
};

RankSum rank_sum(std::span<const double> a, std::span<const double> b) {
  std::vector<std::pair<double, bool>> pooled;  // value, from a
  pooled.reserve(a.size() + b.size());
  for (const double x : a) pooled.emplace_back(x, true);
  for (const double x : b) pooled.emplace_back(x, false);
  std::ranges::sort(pooled);

  RankSum sum{0, 0};
  for (std::size_t begin = 0; begin < pooled.size();) {
    std::size_t end = begin, of_a = 0;
    for (; end < pooled.size() && pooled[end].first == pooled[begin].first; ++end) of_a += pooled[end].second;
    const auto ties = static_cast<double>(end - begin);
    const double mid_rank = (static_cast<double>(begin + end) + 1.0) / 2.0;  // ranks count from 1
    sum.u += static_cast<double>(of_a) * mid_rank;
    sum.tie_term += ties * ties * ties - ties;
    begin = end;
  }
  const auto n = static_cast<double>(a.size());
  sum.u -= n * (n + 1.0) / 2.0;
  return sum;
}

/// P(U <= u) without ties, by the recurrence over which series the largest value belongs to:
/// p(n, m, u) = n / (n + m) p(n - 1, m, u - m) + m / (n + m) p(n, m - 1, u).
double exact_lower_tail(std::size_t n, std::size_t m, std::size_t u) {
  // table[j][k]: P(U = k) for the current i values of a and j of b.
  std::vector<std::vector<double>> table(m + 1, std::vector<double>(u + 1, 0.0));
  for (std::vector<double>& of_j : table) of_j[0] = 1.0;  // no values of a: U = 0
  for (std::size_t i = 1; i <= n; ++i) {
    // j = 0: U = 0, as it stands.
    for (std::size_t j = 1; j <= m; ++j) {
      const double share = static_cast<double>(i) / static_cast<double>(i + j);
      for (std::size_t k = u + 1; k-- > 0;) {
        const double largest_in_a = k >= j ? table[j][k - j] : 0.0;
        table[j][k] = share * largest_in_a + (1.0 - share) * table[j - 1][k];
      }
    }
  }
  return std::accumulate(table[m].begin(), table[m].end(), 0.0);
}

}  // namespace

double mann_whitney_p(std::span<const double> a, std::span<const double> b) {
  constexpr std::size_t most_exact_pairs = 400;
  const RankSum sum = rank_sum(a, b);
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  const double u = std::min(sum.u, n * m - sum.u);  // the distribution is symmetric
  if (sum.tie_term == 0 && a.size() * b.size() <= most_exact_pairs) {
    return std::min(1.0, 2.0 * exact_lower_tail(a.size(), b.size(), static_cast<std::size_t>(u)));
  }
  const double total = n + m;
  const double variance = n * m / 12.0 * (total + 1.0 - sum.tie_term / (total * (total - 1.0)));
  if (variance <= 0) return 1.0;  // all values are equal
  const double z = std::max(0.0, n * m / 2.0 - u - 0.5) / std::sqrt(variance);
  return std::erfc(z / std::sqrt(2.0));
}

std::vector<double> holm_adjusted(std::span<const double> p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t i) { return p_values[i]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const auto remaining = static_cast<double>(order.size() - rank);
    largest = std::max(largest, std::min(1.0, remaining * p_values[order[rank]]));
    adjusted[order[rank]] = largest;
  }
  return adjusted;
}

}  // namespace helix
