// A rank's part in decoding: the orchestration of a step, written once for every backend and sharding.
//
//   embed -> L x [norm, QKV, RoPE, append, flash-decode, all-to-all, merge, W_O, all-reduce, norm, FFN,
//   all-reduce]
//         -> norm, LM head, argmax
//
// The numbered steps of the method are in attention_block.cpp and ffn_block.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/communicator.hpp"
#include "kernels/kv_cache.hpp"
#include "kernels/memory.hpp"
#include "kernels/weight_store.hpp"
#include "roofline/phases.hpp"
#include "roofline/sharding.hpp"

namespace helix {

/// Told as a step goes by. Layers count from 0; embedding and head report as Phase::head.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void phase_done(Phase) {}
  virtual void layers_begin() {}
  virtual void layer_done(std::int64_t) {}
};

/// Throws UsageError naming the first feature of the model that the engine does not run.
void require_runnable(const ModelSpec& model);

class DecodeEngine {
 public:
  /// The calling rank's part of one instance; collective over groups.stage. `weights` must be loaded with
  /// the same model, sharding and at least `layers` layers. History is generated here. Throws UsageError for
  /// a model that the engine does not run, or a sharding with dp or pp above 1.
  DecodeEngine(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
               std::int64_t layers, std::uint64_t seed, Backend& backend, const Groups& groups,
               const WeightStore& weights, EngineMemory& memory);

  /// Bytes that the KV cache of rank `stage_rank` takes in EngineMemory::kv.
  static std::size_t kv_bytes_needed(const ModelSpec& model, const Sharding& sharding,
                                     const DecodeShape& shape, std::int64_t layers, int stage_rank,
                                     Backend& backend);

  /// Decodes one token of every request through the first `depth` layers (default: all).
  void step(StepObserver& observer, std::optional<std::int64_t> depth = std::nullopt);
  /// Back to the history alone: the next step is decode step 0 again.
  void rewind();
  /// Steps until the appended tokens fill their room; `step` must not be called more often without `rewind`.
  std::int64_t steps_before_rewind() const;

  std::int64_t steps_done() const { return step_; }
  /// Tokens chosen by the last step, [batch].
  std::vector<std::int32_t> tokens() const;
  /// Logits of the last step for every request over the whole vocabulary, [batch, vocab]; collective.
  std::vector<float> gather_logits() const;
  /// What the block just finished adds to the residual stream, [batch, hidden]: for observers, when its
  /// all-reduce (Phase::attn_allreduce, Phase::ffn_comm) is done.
  std::vector<BF16> block_output() const;
  /// Experts chosen in `layer` by the last step, [batch, top_k]; empty for a dense layer.
  std::vector<std::int32_t> routing(std::int64_t layer) const;
  /// Bytes of activations and communication buffers on this rank.
  std::size_t activation_bytes() const { return activation_bytes_; }

 private:
  void embed(StepObserver& observer);
  void attention_block(std::int64_t layer, StepObserver& observer);
  void project_gqa(std::int64_t layer, bool own);
  void project_mla(std::int64_t layer, bool own);
  const BF16* exchange_partials(StepObserver& observer);
  void ffn_block(std::int64_t layer, StepObserver& observer);
  void head(StepObserver& observer);

  // Arrays of the step in device memory; see layout() for their shapes.
  struct Arrays {
    std::int64_t* positions;
    std::int32_t* tokens;
    float* residual;
    BF16 *delta, *normed;
    BF16 *qkv, *q_a, *q_heads, *kv_row, *q;
    BF16* o;
    float* lse;
    std::byte *send, *recv;
    BF16 *merged, *values;
    BF16 *gate_up, *act, *shared;
    float *router_logits, *router_weights;
    std::int32_t* routing;
    float* logits;
    TopLogit *top, *gathered_top;
    std::byte* scratch;
    float* inv_freq;
  };
  void layout(Carver& carver, Arrays& arrays) const;

  ModelSpec model_;
  Sharding sharding_;
  DecodeShape shape_;
  std::int64_t layers_;
  std::uint64_t seed_;
  Backend& backend_;
  const Groups& groups_;
  const WeightStore& weights_;
  RankCoords at_;
  Range heads_, owned_, kv_heads_;
  KvShape kv_shape_;
  PartialShape partials_;
  RouterShape router_;
  RopeTable rope_;
  float scale_ = 1.0f;
  KvCache kv_;
  Arrays a_{};
  std::size_t activation_bytes_ = 0;
  std::int64_t step_ = 0;
};

}  // namespace helix
