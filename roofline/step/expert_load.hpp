// What routing makes of a batch: how many experts of a rank are read, and how many tokens they get.
#pragma once

#include <cstdint>

namespace helix {

/// Distinct experts among `local` of `experts` that `tokens` draws of `top_k` different experts touch on
/// average: each expert is missed by a token with probability 1 - k / E, so local (1 - (1 - k / E)^tokens).
double expected_active_experts(std::int64_t local, std::int64_t experts, std::int64_t top_k,
                               std::int64_t tokens);

/// Mean of the largest of n independent standard normal values.
double expected_maximum(std::int64_t n);

/// The busiest rank's load where each rank holds `local` of `experts`: the ranks wait for it in every layer.
/// skew = 0: all experts are equally popular. The active experts of a rank then have the mean above and, as
/// their sum over the ranks hardly varies, a hypergeometric variance; the largest of the ranks' numbers is
/// taken as that of normal values with that sum fixed, at least 1. skew > 0: popularity falls as rank^-skew
/// (Zipf), a token chooses expert i with probability min(1, k p_i), and the busiest rank holds the most
/// popular ones.
struct RoutedLoad {
  double active_experts = 0, pairs = 0;
};
RoutedLoad routed_load(std::int64_t local, std::int64_t experts, std::int64_t top_k, std::int64_t tokens,
                       double skew);

/// The same where the ranks hold `redundant` copies more, one after the other of the expert whose copies have most to
/// do: `local` of all copies a rank, spread so that the ranks expect the same number of tokens.
RoutedLoad balanced_load(std::int64_t local, std::int64_t experts, std::int64_t redundant, std::int64_t top_k,
                         std::int64_t tokens, double skew);

}  // namespace helix
