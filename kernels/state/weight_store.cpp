#include "kernels/state/weight_store.hpp"

#include <stdexcept>

#include "kernels/ops/memory.hpp"
#include "kernels/ops/work_counter.hpp"
#include "kernels/state/stored_weights.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix {
namespace {

constexpr std::int64_t head_layer = -1;

// Slots of what a layer plan does not list; the numbers go on behind Weight.
constexpr int first_slot_of_tensors = static_cast<int>(Weight::count);

constexpr int slot_of(Tensor tensor) {
  return first_slot_of_tensors + static_cast<int>(tensor);
}

/// Null: it is none of a norm.
const BF16* LayerWeights::*gain_of(Tensor tensor) {
  switch (tensor) {
    case Tensor::input_norm:
      return &LayerWeights::input_norm;
    case Tensor::post_norm:
      return &LayerWeights::post_norm;
    case Tensor::attention_out_norm:
      return &LayerWeights::attention_out_norm;
    case Tensor::ffn_out_norm:
      return &LayerWeights::ffn_out_norm;
    case Tensor::draft_token_norm:
      return &LayerWeights::draft_token_norm;
    case Tensor::draft_stream_norm:
      return &LayerWeights::draft_stream_norm;
    case Tensor::draft_out_norm:
      return &LayerWeights::draft_out_norm;
    case Tensor::q_norm:
      return &LayerWeights::q_norm;
    case Tensor::k_norm:
      return &LayerWeights::k_norm;
    case Tensor::q_a_norm:
      return &LayerWeights::q_a_norm;
    case Tensor::kv_a_norm:
      return &LayerWeights::kv_a_norm;
    case Tensor::index_k_norm:
      return &LayerWeights::index_k_norm;
    case Tensor::index_k_bias:
      return &LayerWeights::index_k_bias;
    default:
      return nullptr;
  }
}

}  // namespace

void WeightStore::release() {
  held_.clear();
  previous_.clear();  // of a load that did not end
  layers_.clear();
}

// Takes the memory that the last load left in this slot, or new memory.
// The slot then knows what it holds, so that the next load can tell whether it must be filled again.
PackedWeight WeightStore::packed(Slot where, const MatrixPlan& plan, DType dtype) {
  PackedWeight weight{
      .n = plan.n(), .k = plan.k(), .count = static_cast<std::int64_t>(plan.matrices.size()), .dtype = dtype};
  weight.stride_bytes = backend_.packed_bytes(weight.n, weight.k, weight.dtype);
  const std::size_t bytes = weight.stride_bytes * plan.matrices.size();
  Held& held = held_[where] = std::move(previous_[where]);
  const bool same = held.buffer != nullptr && held.plan == plan && held.dtype == dtype;
  weight.data = ensure(backend_, held.buffer, bytes);
  bytes_ += bytes;
  if (!same) {
    fill(plan, weight);
    held.plan = plan;
    held.dtype = dtype;
    held.scale = weight.scale;
  }
  weight.scale = held.scale;
  return weight;
}

void WeightStore::fill(const MatrixPlan& plan, PackedWeight& weight) {
  if (source_ != nullptr) return store_from(*source_, plan, weight, backend_);
  const QuantizedMatrices stored = quantized(plan.matrices, weight.dtype);
  weight.scale = stored.scale;
  for (std::size_t i = 0; i < stored.matrices.size(); ++i) {
    backend_.fill_weight(weight, static_cast<std::int64_t>(i), stored.matrices[i]);
    note_work();
  }
}

const BF16* WeightStore::table(Slot where, const WeightSlice& unscaled, double factor) {
  WeightSlice slice = unscaled;
  slice.scale *= static_cast<float>(factor);
  const MatrixPlan plan{{{slice}}};
  const std::size_t bytes = static_cast<std::size_t>(slice.rows * slice.cols) * sizeof(BF16);
  Held& held = held_[where] = std::move(previous_[where]);
  const bool same = held.buffer != nullptr && held.plan == plan;
  auto* data = reinterpret_cast<BF16*>(ensure(backend_, held.buffer, bytes));
  bytes_ += bytes;
  if (!same) {
    if (source_ != nullptr) {
      copy_from(*source_, slice, static_cast<float>(factor), data, backend_);
    } else {
      backend_.fill_matrix(data, slice);
    }
    held.plan = plan;
  }
  return data;
}

std::vector<BF16> WeightStore::gains(const ModelSpec& model, std::uint64_t seed, const TensorId& id) const {
  return source_ != nullptr ? stored_gain(*source_, model, id)
                            : gain_values(model, seed, id.tensor, id.layer);
}

std::vector<float> WeightStore::wide(const ModelSpec& model, std::uint64_t seed, const TensorId& id) const {
  return source_ != nullptr ? source_->vector(id) : wide_values(model, seed, id.tensor, id.layer);
}

const BF16* WeightStore::bias(const RankPlan& rank, std::int64_t layer,
                              const std::vector<VectorSlice>& slices) {
  if (slices.empty()) return nullptr;
  std::map<Tensor, std::vector<BF16>> read;  // of experts there is a slice for each
  std::vector<BF16> stacked;
  for (const auto& [tensor, range] : slices) {
    std::vector<BF16>& whole = read[tensor];
    if (whole.empty()) {
      whole = source_ != nullptr ? rounded_to_bf16(source_->vector({tensor, layer, 0}))
                                 : bias_values(rank.model(), rank.instance().seed(), tensor, layer);
    }
    stacked.insert(stacked.end(), whole.begin() + range.begin, whole.begin() + range.end);
  }
  return values({layer, slot_of(slices.front().tensor)}, stacked);
}

void WeightStore::load_vectors(const RankPlan& rank, std::int64_t layer, LayerWeights& w) {
  const ModelSpec& model = rank.model();
  const std::uint64_t seed = rank.instance().seed();
  for (const Tensor tensor : layer_vectors(model, layer)) {
    const TensorId id{tensor, layer, 0};
    if (tensor == Tensor::router_bias) {
      w.router_bias = values({layer, slot_of(tensor)}, wide(model, seed, id));
    } else if (const Range heads = sink_heads(rank); tensor == Tensor::sinks && heads.size() > 0) {
      const std::vector<float> whole = wide(model, seed, id);
      w.sinks = values({layer, slot_of(tensor)},
                       std::vector<float>(whole.begin() + heads.begin, whole.begin() + heads.end));
    } else if (const BF16* LayerWeights::*const gain = gain_of(tensor)) {
      const std::vector<BF16> whole = gains(model, seed, id);
      const Range own = norm_values(rank, tensor);
      w.*gain = values({layer, slot_of(tensor)},
                       std::vector<BF16>(whole.begin() + own.begin, whole.begin() + own.end));
    }
  }
  const BiasPlan biases = plan_biases(rank, layer);
  w.qkv_bias = bias(rank, layer, biases.qkv);
  w.o_bias = bias(rank, layer, biases.o);
  w.gate_up_bias = bias(rank, layer, biases.gate_up);
  w.down_bias = bias(rank, layer, biases.down);
  w.expert_gate_up_bias = bias(rank, layer, biases.expert_gate_up);
  w.expert_down_bias = bias(rank, layer, biases.expert_down);
}

template <class T>
const T* WeightStore::values(Slot where, const std::vector<T>& host) {
  Held& held = held_[where];
  const std::size_t bytes = host.size() * sizeof(T);
  std::byte* data = ensure(backend_, held.buffer, bytes);
  backend_.copy_to_device(data, host.data(), bytes);
  bytes_ += bytes;
  return reinterpret_cast<const T*>(data);
}

void WeightStore::load(const RankPlan& rank, const WeightSource* source) {
  const std::uint64_t source_id = source != nullptr ? source->id() : 0;
  if (source_id != source_id_) release();  // what it holds are other weights
  source_id_ = source_id;
  source_ = source;
  const ModelSpec& model = rank.model();
  const std::uint64_t seed = rank.instance().seed();
  const std::vector<std::int64_t> own = rank.layers_held();
  const std::int64_t layers = own.back() + 1;
  const DType dtype = rank.shape().weight_dtype;
  previous_ = std::move(held_);
  held_.clear();
  bytes_ = 0;

  std::vector<LayerPlan> plans(static_cast<std::size_t>(layers));  // empty outside of the rank's stage
  for (const std::int64_t l : own) plans[static_cast<std::size_t>(l)] = plan_layer(rank, l);
  // Memory of slots that this load does not use goes back before anything new is taken.
  std::erase_if(previous_, [&](const auto& entry) {
    const auto& [layer, kind] = entry.first;
    if (layer == head_layer) return false;
    return layer >= layers || kind >= first_slot_of_tensors ||
           plans[static_cast<std::size_t>(layer)][static_cast<std::size_t>(kind)].empty();
  });

  layers_.assign(static_cast<std::size_t>(layers), {});
  for (const std::int64_t l : own) {
    LayerWeights& w = layers_[static_cast<std::size_t>(l)];
    for (std::size_t kind = 0; kind < weight_kinds; ++kind) {
      const MatrixPlan& plan = plans[static_cast<std::size_t>(l)][kind];
      const auto weight = static_cast<Weight>(kind);
      const bool wide =
          weight == Weight::router || weight == Weight::shared_expert_gate || weight == Weight::index_weights;
      if (!plan.empty())
        w.packed[kind] = packed({l, static_cast<int>(kind)}, plan, wide ? DType::bf16 : dtype);
    }
    for (const Weight weight : {Weight::o, Weight::down, Weight::expert_down, Weight::shared_down})
      w.packed[static_cast<std::size_t>(weight)].scale *= static_cast<float>(model.residual_multiplier);
    load_vectors(rank, l, w);
  }

  const auto rows = [&](Tensor tensor) {
    WeightSlice slice = whole_tensor(model, seed, tensor);
    slice.row0 = rank.vocab().begin;
    slice.rows = rank.vocab().size();
    return slice;
  };
  if (rank.first_stage())
    embedding_ =
        table({head_layer, slot_of(Tensor::embedding)}, rows(Tensor::embedding), model.embedding_multiplier);
  if (rank.last_stage()) {
    lm_head_ = packed({head_layer, slot_of(Tensor::lm_head)}, {{{rows(Tensor::lm_head)}}}, dtype);
    lm_head_.scale /= static_cast<float>(model.logits_divisor);
    final_norm_ =
        values({head_layer, slot_of(Tensor::final_norm)}, gains(model, seed, {Tensor::final_norm, 0, 0}));
  }
  previous_.clear();
}

}  // namespace helix
