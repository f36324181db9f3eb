// A rank's part in decoding: the orchestration of a step, written once for every backend and sharding.
//
//   embed -> L x [norm, QKV, RoPE, append, flash-decode, all-to-all, merge, W_O, all-reduce, norm, FFN,
//   all-reduce]
//         -> norm, LM head, argmax
//
// The numbered steps of the method are in attention_block.cpp and ffn_block.cpp. A pipeline stage runs this
// for one micro-batch after another and hands each on to the next stage: pipeline.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "kernels/comm/communicator.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/state/kv_cache.hpp"
#include "kernels/state/weight_store.hpp"
#include "roofline/step/phases.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

/// Told as a step goes by. Layers count from 0; embedding and head report as Phase::head.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void step_begin() {}
  virtual void phase_done(Phase) {}
  virtual void layers_begin() {}
  virtual void layer_done(std::int64_t) {}
  virtual void step_end() {}
};

/// A step that the KV cache has no room for. It was not begun; every rank of the instance throws alike.
struct OutOfRoom : std::logic_error {
  using std::logic_error::logic_error;
};

class DecodeEngine {
 public:
  /// The calling rank's part of one instance; collective over its ranks. `weights` must be loaded with the
  /// same model, sharding and at least `layers` layers. The cache gets room for at least `steps` steps
  /// between rewinds. History is generated here. Throws UsageError for a model that the engine does not run.
  DecodeEngine(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
               std::int64_t layers, std::int64_t steps, std::uint64_t seed, Backend& backend,
               const Groups& groups, const WeightStore& weights, EngineMemory& memory);

  /// Bytes that the KV cache of rank `rank` takes in EngineMemory::kv.
  static std::size_t kv_bytes_needed(const ModelSpec& model, const Sharding& sharding,
                                     const DecodeShape& shape, std::int64_t layers, std::int64_t steps,
                                     int rank, Backend& backend);

  /// Decodes one token of every request: this rank's layers, or those of them that `only` lists. Pipeline
  /// stages do not wait for each other's step: the first goes on as soon as its tokens come back. Throws
  /// OutOfRoom behind steps_before_rewind().
  void step(StepObserver& observer, std::optional<std::span<const std::int64_t>> only = std::nullopt);
  /// Waits until the last step is done on all stages. Collective.
  void settle();
  /// Back to the history alone. The KVP ranks append in turns, beginning with the turn of decode step
  /// `first_turn`. Collective.
  void rewind(std::int64_t first_turn = 0);
  /// What the next step decodes instead of the tokens that the last one chose, [batch]. Collective.
  void give_tokens(std::span<const std::int32_t> tokens);
  /// Steps until the appended tokens fill their room.
  std::int64_t steps_before_rewind() const;

  std::int64_t steps_done() const { return step_; }
  /// Tokens chosen by the last step, [batch]: on the ranks of the first and the last stage, when settled.
  std::vector<std::int32_t> tokens() const;
  /// Logits of the last step for every request over the whole vocabulary, [batch, vocab]; collective over
  /// the last stage, empty on the others.
  std::vector<float> gather_logits() const;
  /// What the block just finished adds to the residual stream, [block_requests().size(), hidden]: for
  /// observers, when its exchange (Phase::attn_allreduce, the last Phase::ffn_comm) is done.
  std::vector<BF16> block_output() const;
  /// The requests that block_output speaks of.
  Range block_requests() const;
  /// Experts chosen in `layer` by the last step, [batch, top_k]; empty for a dense layer and where this rank
  /// has no part in it.
  std::vector<std::int32_t> routing(std::int64_t layer) const;
  /// Bytes of activations and communication buffers on this rank.
  std::size_t activation_bytes() const { return activation_bytes_; }

 private:
  // What a stage hands on: the residual stream, and the last block's output that is still to be added.
  struct Stream {
    float* residual;
    BF16* delta;
  };

  friend class RecordedSteps;
  /// Steps of one kind issue the same ops on the same memory.
  struct StepKind {
    bool appends = false;          // to this rank's cache
    bool receives_tokens = false;  // from the last stage
    const float* residual = nullptr;
    auto operator<=>(const StepKind&) const = default;
  };
  /// Of the next step. Throws OutOfRoom where there is none.
  StepKind next_kind() const;
  /// What a step changes besides device memory.
  struct HostState {
    std::int64_t step;
    Stream stream, incoming;
    bool tokens_on_way;
  };
  HostState host_state() const { return {step_, a_.stream, a_.incoming, tokens_on_way_}; }
  void restore(const HostState& state) {
    step_ = state.step;
    a_.stream = state.stream;
    a_.incoming = state.incoming;
    tokens_on_way_ = state.tokens_on_way;
  }
  /// Changes just that.
  void skip_step();

  void embed(StepObserver& observer);
  void attention_block(std::int64_t layer, bool own, StepObserver& observer);
  void project_gqa(const LayerWeights& w, const KvView& cache, bool own);
  void project_mla(const LayerWeights& w, const KvView& cache, bool own);
  void attend(const KvView& cache, Range requests);
  const BF16* attend_whole(const KvView& cache, StepObserver& observer);
  const BF16* attend_shards(const KvView& cache, StepObserver& observer);
  void ffn_block(std::int64_t layer, StepObserver& observer);
  void moe_ffn(std::int64_t layer, StepObserver& observer);
  void gated(const PackedWeight& gate_up, const PackedWeight& down, Range rows, BF16* out);
  void gather_rows(void* data, std::size_t row_bytes);
  void head(StepObserver& observer);
  void hand_over(std::size_t next, StepObserver& observer);

  bool first_stage() const { return at_.pp == 0; }
  bool last_stage() const { return at_.pp == sharding_.pp - 1; }
  std::int64_t rows() const { return now_.requests.size(); }
  /// HOP-B: into how many pieces the exchange of so many requests is cut; 1: no overlap.
  int hop_pieces(std::int64_t requests) const;
  PartialShape partials(std::int64_t requests) const;
  /// How many ranks share a shared expert.
  int shared_parts() const { return whole_requests_ ? 1 : sharding_.tpf * sharding_.ep; }
  /// Rows of the micro-batch whose residual stream this rank keeps.
  Range kept_rows() const { return whole_requests_ ? now_.attended : Range{0, rows()}; }

  // Arrays of the step in device memory; see layout() for their shapes.
  struct Arrays {
    std::int64_t* positions;
    std::int32_t* tokens;
    Stream stream, incoming;
    BF16* normed;
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
    std::span<std::byte> scratch;  // of the op that runs
    float* inv_freq;
  };
  void layout(Carver& carver, Arrays& arrays);

  ModelSpec model_;
  Sharding sharding_;
  DecodeShape shape_;
  std::uint64_t seed_;
  Backend& backend_;
  const Groups& groups_;
  const WeightStore& weights_;
  RankCoords at_;
  bool whole_requests_;
  Range stage_layers_;
  std::vector<MicroBatch> micro_batches_;
  Range heads_, owned_, kv_heads_;
  KvShape kv_shape_;
  RouterShape router_;
  RopeTable rope_;
  float scale_ = 1.0f;
  KvCache kv_;
  Arrays a_{};
  std::size_t activation_bytes_ = 0;
  std::vector<std::unique_ptr<Exposure>> exposures_;
  std::size_t stream_bytes_ = 0;
  std::int64_t growth_tokens_;  // room for them on each rank
  std::int64_t first_turn_ = 0, step_ = 0;
  MicroBatch now_;              // the one that is worked on
  bool tokens_on_way_ = false;  // to this rank of the first stage, from the last
};

}  // namespace helix
