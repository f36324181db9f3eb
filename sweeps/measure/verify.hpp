// Holding an engine's output against the fp64 single-rank reference.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/engine/decode_engine.hpp"
#include "kernels/reference/synthetic_weights.hpp"

namespace helix {

struct VerifyOptions {
  std::int64_t steps = 1;            // decode steps from `first_turn` on; the engine must have room for them
  std::int64_t first_turn = 0;       // see DecodeEngine::rewind
  double acceptance = 0;             // of drafts: accepted_tokens()
  std::vector<std::int64_t> layers;  // to run, of those that the engine has
  std::int64_t max_requests = 2;     // requests do not see each other, so a few of the batch are followed
  int threads = 1;                   // of the reference
  /// Steps before this one only advance both sides; from it on their logits are compared.
  std::int64_t first_compared_step = 0;
  /// Of a checkpoint; null: synthetic ones. What rounding costs with them is measured, by a reference that rounds as the
  /// engine does, and so much may be twice as large as there where that is more than verify_tolerance. So it is of
  /// steps with drafts over a narrow cache that has more tokens of theirs than history.
  const WeightSource* weights = nullptr;
  /// Of the reference; kept from one instance to the next where that has the same model.
  std::shared_ptr<reference::SyntheticWeights> synthetic = std::make_shared<reference::SyntheticWeights>();
};

struct Verification {
  /// ||x - reference|| / ||reference|| of a request and step, x being the logits and what each attention and FFN
  /// block adds to the residual stream: of all of them that which is nearest to what is allowed of it, and that.
  /// (Over a long context attention adds little, and logits alone would hide its errors.)
  double rel_error = 0, tolerance = 0;
  double max_error = 0;  // largest |logit - reference|
  std::string failure;   // empty: passed
  bool ok() const { return failure.empty(); }
};

/// A few of an instance's layers that show all it does: of each pipeline stage the first layer of each kind.
std::vector<std::int64_t> telling_layers(const Instance& instance);

/// The last two of these steps are those between which the owner of new tokens changes, or those in which it does
/// where a step has several tokens. Where a block is long, or each step is, the first owner's turn has begun before: its tokens are part
/// of the history.
struct OwnerChange {
  std::int64_t steps, first_turn;
  std::int64_t first_compared;  // step
};
OwnerChange steps_to_owner_change(int tokens_per_block, std::int64_t query_tokens = 1, double step_work = 0);

/// Over long contexts the reference takes long: 20 s of one core for a step of a request of 1M tokens and a layer of MLA
/// with 128 heads. So steps_to_owner_change takes fewer steps, but no fewer than the two that are compared, and one request
/// is followed instead of two, where the reference would otherwise multiply more than most_reference_work on one rank.
/// step_work: reference::attention_work.
inline constexpr double most_reference_work = 4e11;  // about a minute of one core
std::int64_t requests_to_follow(double work_of_request, int ranks);

/// Allowed rel_error: 1e-2 with a bf16 KV cache, 3e-2 with fp8 or NVFP4; 7e-2 with NVFP4 and less than 256
/// tokens of context. Decoded rows differ from the reference's by rounding, about 3e-3, and where a value is
/// next to a boundary of the cache's type it is stored a whole spacing off: that makes sqrt(spacing x
/// difference) of the row, 1.4e-2 in e4m3 and 3.4e-2 in NVFP4 (seen in random rows), and as much in the
/// output as the row has weight in it. In the shortest contexts its share is up to twice that.
double verify_tolerance(DType kv_dtype, std::int64_t context);

/// Rewinds the engine, takes options.steps steps greedily and compares block outputs and logits of the
/// followed requests, on every rank that has them, with the reference, which is given the engine's tokens
/// and, where its own scores allow them, the engine's choice of experts. Tokens must be the argmax of the
/// engine's logits, and that of the reference wherever its top-2 gap exceeds what the logits differ by.
/// Drafts are tokens that the engine chose elsewhere, of which some are accepted all the same. Collective over
/// `instance`; the same on every rank. The engine is rewound afterwards.
Verification verify(DecodeEngine& engine, const VerifyOptions& options, MPI_Comm instance);

}  // namespace helix
