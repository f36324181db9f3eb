// A text through an engine, token by token from an empty cache, held against the fp64 reference. What an engine may
// differ by is what the same model loses where the reference rounds to bf16 as the engine does: a measure of the model
// and the text, not a constant.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/engine/decode_engine.hpp"
#include "kernels/reference/reference_model.hpp"

namespace helix {

/// The reference's logits of every position, [tokens, vocab]: in fp64, and rounded as the engine rounds.
struct TextTruth {
  std::vector<std::int32_t> tokens;
  std::vector<double> exact, rounded;
};

/// Collective over `world`: two ranks, where there are two, run the reference; all of them get what it gives.
TextTruth text_truth(const reference::ReferenceSetup& setup, std::span<const std::int32_t> tokens,
                     MPI_Comm world);

/// The logits of every position of an engine with an empty history; all requests decode the same text. Collective over
/// `instance`: its last rank, which is one of the last stage, has them, the others nothing.
std::vector<float> decode_text(DecodeEngine& engine, std::span<const std::int32_t> tokens, std::int64_t batch,
                               std::int64_t vocab, MPI_Comm instance);

struct TextAgreement {
  std::int64_t positions = 0;
  std::int64_t same_top1 = 0;  // the largest logit is the reference's
  /// ||logits - exact|| / ||exact|| over the text, of the engine and of the rounded reference.
  double rel_error = 0, bf16_error = 0;
  /// exp of the mean negative log-probability of the text's tokens behind the first.
  double perplexity = 0, exact_perplexity = 0;
  double perplexity_noise = 0;  // the factor, less 1, by which rounding may shift it
  std::string failure;          // empty: agrees
  bool ok() const { return failure.empty(); }

  /// Of bf16_error: errors of another order of the same roundings are of the same size.
  static constexpr double allowed_multiple = 2;
};

/// Fails where rel_error exceeds allowed_multiple x bf16_error; where another token is the largest though the
/// reference's leads by more than the logits of the position differ by; and where the perplexity is shifted by more
/// than four standard errors of what rounding does to it. NaN fails. With routed experts errors and shifts leave out
/// the worst of every 16 positions: where a token's experts nearly tie, rounding may choose another, and all of its
/// output is another then.
TextAgreement judge_text(const TextTruth& truth, std::span<const float> logits, const ModelSpec& model);

}  // namespace helix
