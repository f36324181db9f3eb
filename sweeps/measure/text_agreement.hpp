// An engine's logits of a text held against the fp64 reference. What they may differ by is what the same model loses where
// the reference rounds to bf16 as the engine does: a measure of the model and the text, not a constant.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "sweeps/measure/text_truth.hpp"

namespace helix {

struct TextAgreement {
  std::int64_t positions = 0;
  std::int64_t same_top1 = 0;  // the largest logit is the reference's
  std::int64_t near_ties = 0;  // TextTruth's
  /// ||logits - exact|| / ||exact|| over the text, of the engine and of the rounded reference.
  double rel_error = 0, bf16_error = 0;
  /// Of all positions the largest error, in what rounding costs there or, if that is more, in the text's mean.
  double worst_position = 0;
  /// exp of the mean negative log-probability of the text's tokens behind the first.
  double perplexity = 0, exact_perplexity = 0;
  double perplexity_noise = 0;  // the factor, less 1, by which rounding may shift it
  std::string failure;          // empty: agrees
  bool ok() const { return failure.empty(); }

  /// Of bf16_error: errors of another order of the same roundings are of the same size.
  static constexpr double allowed_multiple = 2;
  /// Of one position: one of many is further off.
  static constexpr double allowed_multiple_of_position = 4;
};

/// Fails where the truth has a problem; where rel_error exceeds allowed_multiple x bf16_error, or a position's error its
/// multiple; where another token is the largest though the reference's leads by more than the logits of the position differ
/// by; and where the perplexity is shifted by more than what rounding does to it and four standard errors of that. NaN fails.
TextAgreement judge_text(const TextTruth& truth, std::span<const float> logits);

}  // namespace helix
