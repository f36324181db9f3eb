// A rank's weights in device memory. Going from one sharding to the next, what both have in common is kept.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "kernels/ops/backend.hpp"
#include "kernels/ops/weight_source.hpp"
#include "kernels/state/shard_plan.hpp"

namespace helix {

struct LayerWeights {
  std::array<PackedWeight, weight_kinds> packed;
  const PackedWeight& operator[](Weight w) const { return packed[static_cast<std::size_t>(w)]; }
  // Gains of norms; null where the model has none.
  const BF16* input_norm = nullptr;
  const BF16* post_norm = nullptr;
  const BF16 *attention_out_norm = nullptr, *ffn_out_norm = nullptr;
  const BF16 *draft_token_norm = nullptr, *draft_stream_norm = nullptr, *draft_out_norm = nullptr;
  const BF16* q_norm = nullptr;
  const BF16* k_norm = nullptr;
  const BF16* q_a_norm = nullptr;
  const BF16* kv_a_norm = nullptr;
  const BF16* index_k_norm = nullptr;  // of a LayerNorm, with its bias
  const BF16* index_k_bias = nullptr;
  const float* router_bias = nullptr;  // [experts]
  const float* sinks = nullptr;        // [heads], null on ranks that add none
  // Of products; null where the rank adds none.
  const BF16 *qkv_bias = nullptr, *o_bias = nullptr, *gate_up_bias = nullptr, *down_bias = nullptr;
  const BF16 *expert_gate_up_bias = nullptr,
             *expert_down_bias = nullptr;  // [experts, 2 ffn], [experts, hidden]
};

class WeightStore {
 public:
  explicit WeightStore(Backend& backend) : backend_(backend) {}

  /// Makes resident what the rank holds of its layers and of embedding and head. The embedding, the gains, the
  /// router and the weights of an indexer's heads, which are small and decide, are bf16 whatever the others
  /// are. `source`: where the values come from, which reads this rank's parts alone; null: synthetic ones.
  void load(const RankPlan& rank, const WeightSource* source = nullptr);
  void release();

  const LayerWeights& layer(std::int64_t i) const { return layers_[static_cast<std::size_t>(i)]; }
  const BF16* embedding() const { return embedding_; }  // [the rank's part of the vocabulary, hidden]
  const PackedWeight& lm_head() const { return lm_head_; }
  const BF16* final_norm() const { return final_norm_; }
  /// Bytes of all weights of the current load.
  std::size_t bytes() const { return bytes_; }

 private:
  // A piece of device memory and what it was filled with.
  struct Held {
    MatrixPlan plan;
    DType dtype = DType::bf16;
    float scale = 1.0f;
    std::unique_ptr<Buffer> buffer;
  };
  using Slot = std::pair<std::int64_t, int>;  // layer (or head_layer), Weight (or an id past Weight::count)

  PackedWeight packed(Slot slot, const MatrixPlan& plan, DType dtype);
  void fill(const MatrixPlan& plan, PackedWeight& weight);
  const BF16* table(Slot slot, const WeightSlice& slice, double factor);
  std::vector<float> wide(const ModelSpec& model, std::uint64_t seed, const TensorId& id) const;
  std::vector<BF16> gains(const ModelSpec& model, std::uint64_t seed, const TensorId& id) const;
  const BF16* bias(const RankPlan& rank, std::int64_t layer, const std::vector<VectorSlice>& slices);
  void load_vectors(const RankPlan& rank, std::int64_t layer, LayerWeights& w);
  template <class T>
  const T* values(Slot slot, const std::vector<T>& host);

  Backend& backend_;
  const WeightSource* source_ = nullptr;  // during a load
  std::uint64_t source_id_ = 0;           // of what is held; 0: synthetic
  std::map<Slot, Held> held_;
  std::map<Slot, Held> previous_;
  std::vector<LayerWeights> layers_;
  const BF16* embedding_ = nullptr;
  PackedWeight lm_head_;
  const BF16* final_norm_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace helix
