#include "sweeps/measure/text_agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace helix {
namespace {

template <class T>
std::span<const T> row_of(std::span<const T> logits, std::size_t position, std::size_t vocab) {
  return logits.subspan(position * vocab, vocab);
}

/// -log of the token's probability.
template <class T>
double surprise(std::span<const T> logits, std::int32_t token) {
  const auto largest = static_cast<double>(*std::ranges::max_element(logits));
  double sum = 0;
  for (const T x : logits) sum += std::exp(static_cast<double>(x) - largest);
  return largest + std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(token)]);
}

template <class T>
std::size_t best(std::span<const T> logits) {
  return static_cast<std::size_t>(std::ranges::max_element(logits) - logits.begin());
}

struct Distance {
  double squares = 0, largest = 0;
};
template <class T>
Distance distance(std::span<const T> logits, std::span<const double> exact) {
  Distance d;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double x = static_cast<double>(logits[i]) - exact[i];
    d.squares += x * x;
    d.largest = std::max(d.largest, std::fabs(x));
  }
  return d;
}

/// Mean, and its standard error about zero.
struct Shift {
  double mean = 0, error = 0;
};

Shift shift_of(std::span<const double> differences) {
  const auto n = static_cast<double>(differences.size());
  double sum = 0, squares = 0;
  for (const double d : differences) {
    sum += d;
    squares += d * d;
  }
  return {sum / n, std::sqrt(squares / n) / std::sqrt(n)};
}

}  // namespace

TextAgreement judge_text(const TextTruth& truth, std::span<const float> logits) {
  const std::size_t positions = truth.tokens.size(), width = truth.exact.size() / positions;
  const std::span<const double> all_exact = truth.exact, all_rounded = truth.rounded;
  TextAgreement result;
  result.positions = std::ssize(truth.tokens);
  result.near_ties = truth.near_ties;
  const auto fail = [&](const std::string& what) {
    if (result.failure.empty()) result.failure = what;
  };
  if (!truth.problem.empty()) fail(truth.problem);
  double norm = 0, squares = 0, rounded_squares = 0, exact_sum = 0;
  std::vector<double> errors, rounded_errors;  // of positions, squares
  std::vector<double> shifts, rounded_shifts;
  for (std::size_t t = 0; t < positions; ++t) {
    const auto row = row_of(logits, t, width);
    const auto exact = row_of(all_exact, t, width), rounded = row_of(all_rounded, t, width);
    const Distance d = distance(row, exact);
    if (!std::isfinite(d.squares)) {
      fail(fmt::format("position {}: a logit is no number", t));
      return result;
    }
    errors.push_back(d.squares);
    rounded_errors.push_back(distance(rounded, exact).squares);
    squares += d.squares;
    rounded_squares += rounded_errors.back();
    for (const double x : exact) norm += x * x;
    const std::size_t chosen = best(row), expected = best(exact);
    if (chosen == expected) {
      ++result.same_top1;
    } else if (exact[expected] - exact[chosen] > 2 * d.largest) {
      fail(fmt::format("position {}: token {} instead of {}, which leads by {:.3g}", t, chosen, expected,
                       exact[expected] - exact[chosen]));
    }
    if (t + 1 == positions) continue;
    const std::int32_t next = truth.tokens[t + 1];
    const double surprise_exact = surprise(exact, next);
    exact_sum += surprise_exact;
    shifts.push_back(surprise(row, next) - surprise_exact);
    rounded_shifts.push_back(surprise(rounded, next) - surprise_exact);
  }
  result.rel_error = std::sqrt(squares / norm);
  result.bf16_error = std::sqrt(rounded_squares / norm);
  const double mean_cost = rounded_squares / static_cast<double>(positions);
  for (std::size_t t = 0; t < positions; ++t) {
    const double times = std::sqrt(errors[t] / std::max(rounded_errors[t], mean_cost));
    result.worst_position = std::max(result.worst_position, times);
    if (!(times <= TextAgreement::allowed_multiple_of_position)) {
      fail(fmt::format("position {}: the logits' error is {:.3g} times what bf16 costs them", t, times));
    }
  }
  if (!(result.rel_error <= TextAgreement::allowed_multiple * result.bf16_error)) {
    fail(fmt::format("logits: relative error {:.3g} exceeds {} times the {:.3g} that bf16 costs",
                     result.rel_error, TextAgreement::allowed_multiple, result.bf16_error));
  }
  if (shifts.empty()) return result;
  constexpr double standard_errors = 4;
  const double exact_mean = exact_sum / static_cast<double>(shifts.size());
  const Shift shift = shift_of(shifts), noise = shift_of(rounded_shifts);
  result.exact_perplexity = std::exp(exact_mean);
  result.perplexity = std::exp(exact_mean + shift.mean);
  // A text's positions share a history, whose rounding may shift all of them one way.
  const double allowed = std::fabs(noise.mean) + standard_errors * noise.error;
  result.perplexity_noise = std::expm1(allowed);
  if (std::fabs(shift.mean) > allowed) {
    fail(fmt::format("perplexity {:.6g} instead of {:.6g}: bf16 shifts it by up to {:.2g} %",
                     result.perplexity, result.exact_perplexity, 100 * result.perplexity_noise));
  }
  return result;
}

}  // namespace helix
