// A whole decode step in fp64 on one rank: no shards, no pages, no backend. What the engine computes is held
// against this. It shares with the engine only what defines the problem: the synthetic values, the tensors'
// keys and scales, and the rope parameters. MLA is run in its absorbed form, because the naive one costs a
// hundred times as much; a test shows that the two agree.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops/weight_source.hpp"
#include "kernels/reference/math.hpp"
#include "kernels/reference/request_cache.hpp"
#include "kernels/reference/synthetic_weights.hpp"
#include "roofline/base/dtype.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix::reference {

struct ReferenceSetup {
  ModelSpec model;
  std::uint64_t seed = 0;
  std::vector<std::int64_t> layers;  // that are run, of the model's
  std::int64_t context = 0;          // history of each request
  DType weight_dtype = DType::bf16, kv_dtype = DType::bf16;
  bool exact_cache = false;               // decoded rows are cached as they are, in no dtype
  const WeightSource* weights = nullptr;  // null: synthetic ones
  std::shared_ptr<SyntheticWeights> synthetic =
      std::make_shared<SyntheticWeights>();  // for requests one after the other
  int threads = 1;                           // of attention over many tokens
  /// What an op of the engine leaves in bf16 is rounded to bf16: what this costs is what a backend is allowed to.
  bool round_as_engine = false;
  /// How far, in router logits, an expert chosen elsewhere may lie below this model's own choice.
  /// bf16 activations carry about 1 % of error and logits have a standard deviation of 1 to 2, so a
  /// few times 0.02.
  double routing_tolerance = 0.1;
  /// The same of the scores of sparse attention's tokens, in standard deviations of those of a step.
  double selection_tolerance = 0.1;
};

/// Multiply-adds of attention in a step of one request.
double attention_work(const ReferenceSetup& setup);

/// What was chosen elsewhere in a layer that is run; empty where nothing was, or this model's own choice is wanted.
struct LayerChoice {
  std::vector<std::int32_t> experts;
  std::vector<bool>
      tokens;  // sparse attention: of each cached token, the step's own included, is it attended?

  friend auto operator<=>(const LayerChoice&, const LayerChoice&) = default;
};

/// 0, 1, ... n - 1.
inline std::vector<std::int64_t> first_layers(std::int64_t n) {
  std::vector<std::int64_t> layers(static_cast<std::size_t>(n));
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

struct ReferenceStep {
  /// What each block adds to the residual stream, [hidden]: attention and FFN of each layer in turn; of parallel blocks
  /// attention, and both together.
  std::vector<Vector> block_outputs;
  Vector logits;               // [vocab]
  std::int32_t token = -1;     // the largest logit's, the lower one of equals
  double top2_gap = 0.0;       // how much larger it is than the second
  std::string choice_problem;  // why a given choice cannot be a rounding difference; empty: it can
  std::vector<std::vector<std::int32_t>> routing;  // experts used in each layer run; empty for a dense layer
  /// Of each layer run, what it chooses by: the router's logits, and sparse attention's score of each cached token; empty
  /// where it has none.
  std::vector<Vector> router_logits, index_scores;
};

/// One request; requests do not see each other.
class ReferenceRequest {
 public:
  ReferenceRequest(const ReferenceSetup& setup, std::int64_t request);

  /// Decodes `token` at position context + steps done. `choices`: for each layer run, or none, what was chosen
  /// elsewhere, used (with this model's weights for it) where it can be a rounding difference.
  ReferenceStep step(std::int32_t token, std::span<const LayerChoice> choices = {});

  /// What a draft layer makes of the steps since it was asked last, but for those taken back (before the first ones:
  /// of the history's end, with 0 for its residual stream). `chosen`: the tokens behind them; `drafts`: what was
  /// drafted elsewhere. A step of one layer for each draft; `choices` are of one layer, for each token seen.
  std::vector<ReferenceStep> draft(std::span<const std::int32_t> chosen, std::span<const std::int32_t> drafts,
                                   std::span<const LayerChoice> choices = {});

  std::int64_t steps_done() const { return steps_; }
  /// Takes the last `steps` back.
  void take_back(std::int64_t steps);

 private:
  // `run` counts the layers that are run; a draft layer is behind them.
  std::int64_t layer_of(std::size_t run) const;
  Vector embedding(std::int32_t token) const;
  void run_layer(std::size_t run, Vector& residual, const LayerChoice& choice, ReferenceStep& step);
  /// Norms it, for the logits.
  void finish(Tensor norm, std::int64_t layer, Vector& residual, ReferenceStep& step);
  /// Queries at this position, by RopeSpec::query_growth.
  void grow(Vector& queries) const;
  Vector attention(std::size_t run, const Vector& x, const LayerChoice& choice, ReferenceStep& step);
  Vector gqa(std::size_t run, const Vector& x);
  Vector mla(std::size_t run, const Vector& x, const LayerChoice& choice, ReferenceStep& step);
  std::vector<bool> indexed(std::size_t run, const Vector& x, const Vector& q_latent,
                            const LayerChoice& choice, ReferenceStep& step);

  ReferenceSetup setup_;
  Rope rope_, window_rope_, index_rope_;
  double scale_;
  std::vector<RequestCache> caches_;      // one per layer run
  std::vector<RequestCache> index_keys_;  // of sparse attention, too
  std::int64_t steps_ = 0;
  std::int64_t position_ = 0;    // of the token that runs
  bool appends_ = true;          // whether it is cached
  std::vector<Vector> streams_;  // behind the final norm, of the steps that a draft layer has not seen
};

}  // namespace helix::reference
