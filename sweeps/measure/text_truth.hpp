// A text through an engine, token by token from an empty cache, and what the fp64 reference makes of the same text where it
// takes the engine's choices of experts (and of the tokens of sparse attention). Where two experts nearly tie, rounding
// decides which is taken, and all that follows is another's output: with the same choices everywhere every position can be
// judged by its rounding alone, and the choices by their scores.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/engine/decode_engine.hpp"
#include "kernels/reference/reference_model.hpp"

namespace helix {

/// What was chosen at each position in each layer; empty for models that choose nothing.
using TextChoices = std::vector<std::vector<reference::LayerChoice>>;

struct DecodedText {
  std::vector<float>
      logits;  // of every position, [tokens, vocab]; on the last rank, which is one of the last stage
  TextChoices choices;  // on every rank
};

/// Of an engine with an empty history; all requests decode the same text, and the first one is followed. Collective over
/// `instance`.
DecodedText decode_text(DecodeEngine& engine, std::span<const std::int32_t> tokens, MPI_Comm instance);

/// The choices of rank 0 on every rank. Collective over `world`.
TextChoices broadcast_choices(const TextChoices& choices, MPI_Comm world);

struct TextTruth {
  std::vector<std::int32_t> tokens;
  /// The reference's logits of every position, [tokens, vocab]: in fp64, and rounded as the engine rounds.
  std::vector<double> exact, rounded;
  std::int64_t near_ties = 0;  // positions at which the engine chose otherwise than the reference would have
  /// Why the engine's choices are none that rounding explains: a score lies further below one that was left out than
  /// twice what rounding moves scores of that layer by, at most, anywhere in this text. Empty: they all are.
  std::string problem;
};

/// Collective over `world`: two ranks, where there are two, run the reference; all of them get what it gives.
TextTruth text_truth(const reference::ReferenceSetup& setup, std::span<const std::int32_t> tokens,
                     const TextChoices& choices, MPI_Comm world);

}  // namespace helix
