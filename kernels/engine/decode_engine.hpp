// A rank's part in decoding: the orchestration of a step, written once for every backend and sharding.
//
//   embed -> L x [norm, QKV, RoPE, append, flash-decode, all-to-all, merge, W_O, all-reduce, norm, FFN,
//   all-reduce]
//         -> norm, LM head, argmax
//
// Parallel blocks have neither the all-reduce nor the norm between attention and FFN.
// The numbered steps of the method are in attention_block.cpp and ffn_block.cpp. A pipeline stage runs this
// for one micro-batch after another and hands each on to the next stage: pipeline.hpp.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/comm/communicator.hpp"
#include "kernels/engine/attention_block.hpp"
#include "kernels/engine/draft_block.hpp"
#include "kernels/engine/ffn_block.hpp"
#include "kernels/engine/head_block.hpp"
#include "kernels/engine/pipeline.hpp"
#include "kernels/engine/step_observer.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/state/weight_store.hpp"
#include "roofline/step/rank_plan.hpp"

namespace helix {

/// A step that the KV cache has no room for. It was not begun; every rank of the instance throws alike.
struct OutOfRoom : std::logic_error {
  using std::logic_error::logic_error;
};

/// Why the engine does not check the step's drafted tokens with this model; empty if it does or there are none.
std::string why_no_drafts(const ModelSpec& model, const DecodeShape& shape);

class DecodeEngine {
 public:
  /// The calling rank's part of one instance; collective over its ranks. `weights` must be loaded with this
  /// rank's plan. The cache gets room for at least `steps` steps between rewinds. History is generated here.
  /// Throws UsageError for a model that the engine does not run.
  DecodeEngine(const Instance& instance, std::int64_t steps, Backend& backend, const Groups& groups,
               const WeightStore& weights, EngineMemory& memory);
  DecodeEngine(const DecodeEngine&) = delete;
  DecodeEngine& operator=(const DecodeEngine&) = delete;

  /// Of the caches that the constructor makes.
  static CacheBytes cache_bytes(const RankPlan& plan, std::int64_t steps, const Backend& backend);

  const RankPlan& plan() const { return plan_; }
  const Instance& instance() const { return plan_.instance(); }

  /// Decodes one token of every request, and checks the drafts behind it, which it makes itself where it has a draft
  /// layer: this rank's layers, or those of them that `only` lists. Pipeline stages do not wait for each other's step: the first goes on as soon as its tokens come
  /// back. Throws OutOfRoom where the tokens accepted since the rewind leave no room for it, which is never the case
  /// before steps_before_rewind().
  void step(StepObserver& observer, std::optional<std::span<const std::int64_t>> only = std::nullopt);
  /// Waits until the last step is done on all stages. Collective.
  void settle() { pipeline_.settle(); }
  /// Back to the history alone. The KVP ranks append in turns, beginning with the turn of decode step
  /// `first_turn`. Collective.
  void rewind(std::int64_t first_turn = 0);
  /// What the next step decodes, or drafts behind, instead of the tokens that the last one chose, [rows]. Collective.
  void give_tokens(std::span<const std::int32_t> tokens);
  /// How many tokens of the last step, and of later ones, count for each request, [batch], from 1 to query_tokens; the
  /// others leave the cache. Without it, and again after a rewind, one: all drafts are rejected. Not before a first
  /// step. All ranks alike.
  void accept(std::span<const std::int64_t> tokens);
  /// Steps until the appended tokens fill their room, whatever is accepted.
  std::int64_t steps_before_rewind() const { return room_ / plan_.shape().query_tokens(); }
  std::int64_t steps_done() const { return step_; }

  /// Tokens chosen by the last step behind each of its own, [rows]: on the ranks of the first and the last stage,
  /// when settled.
  std::vector<std::int32_t> tokens() const;
  /// Whether it makes its drafts itself.
  bool drafts() const { return draft_.has_value(); }
  /// Then, what the last step checked, [rows]: each request's next token and the drafts behind it.
  std::vector<std::int32_t> checked_tokens() const;
  /// For observers, at draft_done(): that run's logits of a row for each request, [batch, vocab]. Collective.
  std::vector<float> gather_draft_logits() const { return head_.gather_logits(plan_.shape().batch); }
  /// Logits of the last step for every row over the whole vocabulary, [rows, vocab]; collective over the last
  /// stage, empty on the others.
  std::vector<float> gather_logits() const;
  /// What the block just finished adds to the residual stream, [rows of block_requests(), hidden]: for
  /// observers, when its exchange (Phase::attn_allreduce, the last Phase::ffn_comm) is done.
  std::vector<BF16> block_output() const;
  /// Of parallel blocks this rank's part of what attention adds, [rows of attended_requests(), hidden]: for observers,
  /// behind the layer's last Phase::ffn_comm. Else empty.
  std::vector<BF16> attention_part() const;
  /// The requests that block_output speaks of.
  Range block_requests() const;
  /// Experts chosen in `layer` by the last step, [rows, top_k]; empty for a dense layer and where this rank
  /// has no part in it.
  std::vector<std::int32_t> routing(std::int64_t layer) const;
  /// The same of a run of the draft layer; of one row a request from the second on.
  std::vector<std::int32_t> draft_routing(std::int64_t run) const;

  /// Sparse attention: the positions that this rank attends in the block just finished, of attended_requests().
  /// For observers, at Phase::attn_allreduce. Else empty.
  std::vector<std::vector<std::int64_t>> attended_positions() const;
  Range attended_requests() const;

  // For steps that are recorded and replayed.
  /// Steps of one kind issue the same ops on the same memory.
  struct StepKind {
    std::vector<Append> appends{};  // to each of this rank's caches; of several tokens some may grow it
    bool receives_tokens = false;   // from the last stage
    const float* residual = nullptr;
    auto operator<=>(const StepKind&) const = default;
  };
  /// Of the next step. Throws OutOfRoom where there is none.
  StepKind next_kind() const;
  /// What a step changes besides device memory.
  struct HostState {
    std::int64_t step, decoded;
    Pipeline::State pipeline;
  };
  HostState host_state() const { return {step_, decoded_, pipeline_.state()}; }
  void restore(const HostState& state);
  /// Changes just that, as a step would.
  void skip_step();

 private:
  /// One buffer, which the ranks' collectives are let at.
  struct Activations {
    Activations(Carver& carver, const RankPlan& plan, const Backend& backend, std::int64_t steps);

    Pipeline::Arrays pipeline;
    BF16 *normed, *attention_out;
    AttentionBlock::Arrays attention;
    FfnBlock::Arrays ffn;
    HeadBlock::Arrays head;
    DraftBlock::Arrays draft;
    std::span<std::byte> scratch;
    std::uint64_t layout;  // Carver::layout of all of them
  };
  /// Before the next step, of the request that has most.
  std::int64_t decoded_next() const { return step_ == 0 ? 0 : decoded_ + accepted_; }
  /// That is worked on.
  const MicroBatch& current() const;
  std::vector<std::int32_t> to_host(const std::int32_t* tokens) const;
  static Activations carve(const RankPlan& plan, Backend& backend, std::int64_t steps,
                           std::unique_ptr<Buffer>& memory);

  RankPlan plan_;
  Backend& backend_;
  Activations activations_;
  BlockContext context_;
  Pipeline pipeline_;
  AttentionBlock attention_;
  FfnBlock ffn_;
  HeadBlock head_;
  std::optional<DraftBlock> draft_;
  std::vector<std::unique_ptr<Exposure>> exposures_;
  std::int64_t room_;  // tokens of a request between rewinds
  std::int64_t first_turn_ = 0, step_ = 0;
  std::int64_t decoded_ = 0, accepted_ = 1;  // before the last step, and of it, of the request that has most
  std::size_t now_ = 0;                      // the micro-batch that is worked on
};

}  // namespace helix
