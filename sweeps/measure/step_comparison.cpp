#include "sweeps/measure/step_comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"

namespace helix {
namespace {

struct Difference {
  double rel_error = 0;
  double max_error = 0;
};

// NaN anywhere makes both figures infinite: it must not slip through a comparison.
template <class T>
Difference difference_of(std::span<const T> values, const reference::Vector& expected) {
  double squares = 0, norm = 0, largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    if constexpr (std::is_same_v<T, BF16>) {
      value = static_cast<double>(to_float(values[i]));
    } else {
      value = static_cast<double>(values[i]);
    }
    const double d = value - expected[i];
    squares += d * d;
    norm += expected[i] * expected[i];
    largest = std::max(largest, std::fabs(d));
  }
  if (!std::isfinite(squares) || !std::isfinite(norm) || norm == 0) return {HUGE_VAL, HUGE_VAL};
  return {std::sqrt(squares / norm), largest};
}

std::string check_token(std::int32_t token, std::span<const float> logits,
                        const reference::ReferenceStep& expected, double max_error) {
  const auto best = static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
  if (token != best) return fmt::format("token {} is not the argmax {} of its logits", token, best);
  if (token != expected.token && expected.top2_gap > 2 * max_error) {
    return fmt::format("token {} instead of {}, which leads by {:.3g}", token, expected.token,
                       expected.top2_gap);
  }
  return {};
}

/// Allowed relative errors of each block's output and, last, of the logits: `tolerance`, or twice what rounding costs.
std::vector<double> allowances(const reference::ReferenceStep& expected,
                               const reference::ReferenceStep* rounded, double tolerance) {
  std::vector<double> allowed(expected.block_outputs.size() + 1, tolerance);
  if (rounded == nullptr) return allowed;
  const auto allow = [&](double& error, const reference::Vector& x, const reference::Vector& exact) {
    error = std::max(error, 2 * difference_of(std::span<const double>(x), exact).rel_error);
  };
  for (std::size_t i = 0; i < expected.block_outputs.size(); ++i)
    allow(allowed[i], rounded->block_outputs[i], expected.block_outputs[i]);
  allow(allowed.back(), rounded->logits, expected.logits);
  return allowed;
}

/// What the owner of a reference computed, to every rank: in one message, as verification of small models is
/// a matter of latencies.
void broadcast(reference::ReferenceStep& step, std::vector<double>& allowed, const ModelSpec& model,
               std::size_t blocks, int owner, MPI_Comm instance) {
  const auto hidden = static_cast<std::size_t>(model.hidden), vocab = static_cast<std::size_t>(model.vocab);
  step.block_outputs.resize(blocks, reference::Vector(hidden));
  step.logits.resize(vocab);
  std::vector<double> message;
  for (const reference::Vector& output : step.block_outputs) {
    message.insert(message.end(), output.begin(), output.end());
  }
  message.insert(message.end(), step.logits.begin(), step.logits.end());
  allowed.resize(blocks + 1);
  message.insert(message.end(), allowed.begin(), allowed.end());
  message.insert(message.end(), {static_cast<double>(step.token), step.top2_gap});
  HELIX_MPI(MPI_Bcast(message.data(), static_cast<int>(message.size()), MPI_DOUBLE, owner, instance));
  auto at = message.begin();
  for (reference::Vector& output : step.block_outputs) {
    output.assign(at, at + model.hidden);
    at += model.hidden;
  }
  step.logits.assign(at, at + model.vocab);
  at += model.vocab;
  allowed.assign(at, at + std::ssize(allowed));
  step.token = static_cast<std::int32_t>(message[message.size() - 2]);
  step.top2_gap = message.back();
}

}  // namespace

void StepComparison::fail(std::string_view where, std::string_view what) {
  if (result_.failure.empty()) result_.failure = fmt::format("{}{}", where, what);
}

void StepComparison::check_choices(std::string_view where, const ExpectedStep& expected) {
  if (expected.exact && !expected.exact->choice_problem.empty()) fail(where, expected.exact->choice_problem);
}

void StepComparison::compare(std::string_view where, const ProducedStep& produced,
                             const ExpectedStep& of_owner, int owner, double inherited) {
  check_choices(where, of_owner);
  reference::ReferenceStep expected = of_owner.exact.value_or(reference::ReferenceStep{});
  std::vector<double> allowed =
      allowances(expected, of_owner.rounded ? &*of_owner.rounded : nullptr, inherited * tolerance_);
  {
    const ActivityFlag waiting(&Activity::bystander, !of_owner.exact);
    broadcast(expected, allowed, model_, produced.blocks.size(), owner, instance_);
  }
  const auto hold = [&](const Difference& difference, double most, std::string_view what) {
    if (result_.tolerance == 0 || difference.rel_error * result_.tolerance >= result_.rel_error * most) {
      result_.rel_error = difference.rel_error;
      result_.tolerance = most;
    }
    if (difference.rel_error > most) {
      fail(where, fmt::format("{}: relative error {:.3g} exceeds {:.3g}", what, difference.rel_error, most));
    }
  };
  std::vector<int> holders(produced.blocks.size());
  for (std::size_t i = 0; i < holders.size(); ++i) {
    const auto& [name, output] = produced.blocks[i];
    if (output.empty()) continue;
    holders[i] = 1;
    hold(difference_of(output, expected.block_outputs[i]), allowed[i], name);
  }
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, holders.data(), static_cast<int>(holders.size()), MPI_INT, MPI_SUM,
                          instance_));
  if (std::ranges::count(holders, 0) > 0) fail(where, "a layer has not been run");
  if (produced.logits.empty()) return;  // of another stage
  const Difference difference = difference_of(produced.logits, expected.logits);
  result_.max_error = std::max(result_.max_error, difference.max_error);
  hold(difference, allowed.back(), "logits");
  if (const std::string token = check_token(produced.token, produced.logits, expected, difference.max_error);
      !token.empty())
    fail(where, token);
}

Verification StepComparison::result() const {
  Verification all = result_;
  struct {
    double part;
    int rank;
  } nearest{all.tolerance > 0 ? all.rel_error / all.tolerance : 0, 0};
  HELIX_MPI(MPI_Comm_rank(instance_, &nearest.rank));
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &nearest, 1, MPI_DOUBLE_INT, MPI_MAXLOC, instance_));
  HELIX_MPI(MPI_Bcast(&all.rel_error, 1, MPI_DOUBLE, nearest.rank, instance_));
  HELIX_MPI(MPI_Bcast(&all.tolerance, 1, MPI_DOUBLE, nearest.rank, instance_));
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &all.max_error, 1, MPI_DOUBLE, MPI_MAX, instance_));
  all.failure = agree_on_failure(result_.failure, instance_);
  return all;
}

}  // namespace helix
