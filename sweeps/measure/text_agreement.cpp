#include "sweeps/measure/text_agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/comm/mpi_check.hpp"
#include "sweeps/launch/activity.hpp"

namespace helix {
namespace {

std::vector<double> reference_logits(const reference::ReferenceSetup& setup,
                                     std::span<const std::int32_t> tokens) {
  reference::ReferenceRequest request(setup, 0);
  std::vector<double> logits;
  for (const std::int32_t token : tokens) {
    working_on("the reference of verification");
    const reference::ReferenceStep step = request.step(token);
    logits.insert(logits.end(), step.logits.begin(), step.logits.end());
  }
  return logits;
}

void share(std::vector<double>& logits, std::size_t size, int owner, MPI_Comm world) {
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(world, &rank));
  logits.resize(size);
  const ActivityFlag waiting(&Activity::bystander, owner != rank);
  HELIX_MPI(MPI_Bcast(logits.data(), static_cast<int>(size), MPI_DOUBLE, owner, world));
}

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

/// Reorders the values.
double sum_without_largest(std::span<double> values, std::size_t left_out) {
  std::ranges::sort(values);
  return std::accumulate(values.begin(), values.end() - static_cast<std::ptrdiff_t>(left_out), 0.0);
}

/// Mean, and its standard error about zero.
struct Shift {
  double mean = 0, error = 0;
};

/// Reorders the differences.
Shift shift_of(std::span<double> differences, std::size_t largest_left_out) {
  std::ranges::sort(differences, {}, [](double d) { return std::fabs(d); });
  if (differences.size() > largest_left_out)
    differences = differences.first(differences.size() - largest_left_out);
  const auto n = static_cast<double>(differences.size());
  double sum = 0, squares = 0;
  for (const double d : differences) {
    sum += d;
    squares += d * d;
  }
  return {sum / n, std::sqrt(squares / n) / std::sqrt(n)};
}

}  // namespace

TextTruth text_truth(const reference::ReferenceSetup& setup, std::span<const std::int32_t> tokens,
                     MPI_Comm world) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(world, &rank));
  HELIX_MPI(MPI_Comm_size(world, &size));
  const int rounding_rank = size > 1 ? 1 : 0;
  TextTruth truth{.tokens = {tokens.begin(), tokens.end()}, .exact = {}, .rounded = {}};
  reference::ReferenceSetup rounding = setup;
  rounding.round_as_engine = true;
  if (rank == 0) truth.exact = reference_logits(setup, tokens);
  if (rank == rounding_rank) truth.rounded = reference_logits(rounding, tokens);
  const std::size_t values = tokens.size() * static_cast<std::size_t>(setup.model.vocab);
  share(truth.exact, values, 0, world);
  share(truth.rounded, values, rounding_rank, world);
  return truth;
}

std::vector<float> decode_text(DecodeEngine& engine, std::span<const std::int32_t> tokens, std::int64_t batch,
                               std::int64_t vocab, MPI_Comm instance) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  HELIX_MPI(MPI_Comm_size(instance, &size));
  StepObserver nobody;
  WatchedStep watched(nobody);
  std::vector<float> logits;
  for (const std::int32_t token : tokens) {
    working_on("decoding the text");
    engine.give_tokens(std::vector<std::int32_t>(static_cast<std::size_t>(batch), token));
    engine.step(watched);
    engine.settle();
    const std::vector<float> step = engine.gather_logits();
    if (rank == size - 1) logits.insert(logits.end(), step.begin(), step.begin() + vocab);
  }
  return logits;
}

TextAgreement judge_text(const TextTruth& truth, std::span<const float> logits, const ModelSpec& model) {
  const auto width = static_cast<std::size_t>(model.vocab);
  const std::span<const double> all_exact = truth.exact, all_rounded = truth.rounded;
  TextAgreement result;
  result.positions = std::ssize(truth.tokens);
  double norm = 0, exact_sum = 0;
  std::vector<double> squares, rounded_squares;
  std::vector<double> shifts, rounded_shifts;
  const auto fail = [&](const std::string& what) {
    if (result.failure.empty()) result.failure = what;
  };
  for (std::size_t t = 0; t < truth.tokens.size(); ++t) {
    const auto row = row_of(logits, t, width);
    const auto exact = row_of(all_exact, t, width), rounded = row_of(all_rounded, t, width);
    const Distance d = distance(row, exact);
    if (!std::isfinite(d.squares)) {
      fail(fmt::format("position {}: a logit is no number", t));
      return result;
    }
    squares.push_back(d.squares);
    rounded_squares.push_back(distance(rounded, exact).squares);
    for (const double x : exact) norm += x * x;
    const std::size_t chosen = best(row), expected = best(exact);
    if (chosen == expected) {
      ++result.same_top1;
    } else if (exact[expected] - exact[chosen] > 2 * d.largest) {
      fail(fmt::format("position {}: token {} instead of {}, which leads by {:.3g}", t, chosen, expected,
                       exact[expected] - exact[chosen]));
    }
    if (t + 1 == truth.tokens.size()) continue;
    const std::int32_t next = truth.tokens[t + 1];
    const double surprise_exact = surprise(exact, next);
    exact_sum += surprise_exact;
    shifts.push_back(surprise(row, next) - surprise_exact);
    rounded_shifts.push_back(surprise(rounded, next) - surprise_exact);
  }
  const std::size_t near_ties = model.moe.experts > 0 ? (truth.tokens.size() + 15) / 16 : 0;
  result.rel_error = std::sqrt(sum_without_largest(squares, near_ties) / norm);
  result.bf16_error = std::sqrt(sum_without_largest(rounded_squares, near_ties) / norm);
  if (!(result.rel_error <= TextAgreement::allowed_multiple * result.bf16_error)) {
    fail(fmt::format("logits: relative error {:.3g} exceeds {} times the {:.3g} that bf16 costs",
                     result.rel_error, TextAgreement::allowed_multiple, result.bf16_error));
  }
  if (shifts.empty()) return result;
  constexpr double standard_errors = 4;
  const double exact_mean = exact_sum / static_cast<double>(shifts.size());
  const Shift shift = shift_of(shifts, near_ties), noise = shift_of(rounded_shifts, near_ties);
  result.exact_perplexity = std::exp(exact_mean);
  result.perplexity = std::exp(exact_mean + shift_of(shifts, 0).mean);
  result.perplexity_noise = std::expm1(standard_errors * noise.error);
  if (std::fabs(shift.mean) > standard_errors * noise.error) {
    fail(fmt::format("perplexity {:.6g} instead of {:.6g}: bf16 shifts it by up to {:.2g} %",
                     result.perplexity, result.exact_perplexity,
                     100 * std::expm1(standard_errors * noise.error)));
  }
  return result;
}

}  // namespace helix
