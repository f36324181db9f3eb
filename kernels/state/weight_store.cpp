#include "kernels/state/weight_store.hpp"

#include "kernels/ops/memory.hpp"
#include "kernels/ops/work_counter.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix {
namespace {

constexpr std::int64_t head_layer = -1;

// Slots of what a layer plan does not list; the numbers go on behind Weight.
namespace slot {
constexpr int first = static_cast<int>(Weight::count);
constexpr int input_norm = first + 0;
constexpr int post_norm = first + 1;
constexpr int q_norm = first + 2;
constexpr int k_norm = first + 3;
constexpr int q_a_norm = first + 4;
constexpr int kv_a_norm = first + 5;
constexpr int router_bias = first + 6;
constexpr int final_norm = first + 7;
constexpr int embedding = first + 8;
constexpr int lm_head = first + 9;
}  // namespace slot

}  // namespace

void WeightStore::release() {
  held_.clear();
  previous_.clear();  // of a load that did not end
  layers_.clear();
}

// Takes the memory that the last load left in this slot, or new memory.
// The slot then knows what it holds, so that the next load can tell whether it must be filled again.
PackedWeight WeightStore::packed(Slot where, const MatrixPlan& plan, DType dtype) {
  const QuantizedMatrices stored = quantized(plan.matrices, dtype);
  PackedWeight weight{.n = plan.n(),
                      .k = plan.k(),
                      .count = static_cast<std::int64_t>(plan.matrices.size()),
                      .dtype = dtype,
                      .scale = stored.scale};
  weight.stride_bytes = backend_.packed_bytes(weight.n, weight.k, weight.dtype);
  const std::size_t bytes = weight.stride_bytes * plan.matrices.size();
  Held& held = held_[where] = std::move(previous_[where]);
  const bool same = held.buffer != nullptr && held.plan == plan && held.dtype == dtype;
  weight.data = ensure(backend_, held.buffer, bytes);
  bytes_ += bytes;
  if (!same) {
    for (std::size_t i = 0; i < stored.matrices.size(); ++i) {
      backend_.fill_weight(weight, static_cast<std::int64_t>(i), stored.matrices[i]);
      note_work();
    }
    held.plan = plan;
    held.dtype = dtype;
  }
  return weight;
}

const BF16* WeightStore::table(Slot where, const WeightSlice& slice) {
  const MatrixPlan plan{{{slice}}};
  const std::size_t bytes = static_cast<std::size_t>(slice.rows * slice.cols) * sizeof(BF16);
  Held& held = held_[where] = std::move(previous_[where]);
  const bool same = held.buffer != nullptr && held.plan == plan;
  auto* data = reinterpret_cast<BF16*>(ensure(backend_, held.buffer, bytes));
  bytes_ += bytes;
  if (!same) {
    backend_.fill_matrix(data, slice);
    held.plan = plan;
  }
  return data;
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

void WeightStore::load(const RankPlan& rank) {
  const ModelSpec& model = rank.model();
  const std::uint64_t seed = rank.instance().seed();
  const std::int64_t layers = rank.instance().layers();
  const DType dtype = rank.shape().weight_dtype;
  const Range own = rank.layers();
  previous_ = std::move(held_);
  held_.clear();
  bytes_ = 0;

  std::vector<LayerPlan> plans(static_cast<std::size_t>(layers));  // empty outside of the rank's stage
  for (std::int64_t l = own.begin; l < own.end; ++l) {
    plans[static_cast<std::size_t>(l)] = plan_layer(rank, l);
  }
  // Memory of slots that this load does not use goes back before anything new is taken.
  std::erase_if(previous_, [&](const auto& entry) {
    const auto& [layer, kind] = entry.first;
    if (layer == head_layer) return false;
    return layer >= layers || kind >= slot::first ||
           plans[static_cast<std::size_t>(layer)][static_cast<std::size_t>(kind)].empty();
  });

  layers_.assign(static_cast<std::size_t>(layers), {});
  for (std::int64_t l = own.begin; l < own.end; ++l) {
    LayerWeights& w = layers_[static_cast<std::size_t>(l)];
    for (std::size_t kind = 0; kind < weight_kinds; ++kind) {
      const MatrixPlan& plan = plans[static_cast<std::size_t>(l)][kind];
      const bool is_router = kind == static_cast<std::size_t>(Weight::router);
      if (!plan.empty())
        w.packed[kind] = packed({l, static_cast<int>(kind)}, plan, is_router ? DType::bf16 : dtype);
    }
    const auto gain = [&](int kind, Tensor tensor) {
      return values({l, kind}, gain_values(model, seed, tensor, l));
    };
    w.input_norm = gain(slot::input_norm, Tensor::input_norm);
    w.post_norm = gain(slot::post_norm, Tensor::post_norm);
    if (model.attention.qk_norm) {
      w.q_norm = gain(slot::q_norm, Tensor::q_norm);
      w.k_norm = gain(slot::k_norm, Tensor::k_norm);
    }
    if (model.attention.q_lora_rank > 0) w.q_a_norm = gain(slot::q_a_norm, Tensor::q_a_norm);
    if (model.attention.kind == AttentionKind::mla) w.kv_a_norm = gain(slot::kv_a_norm, Tensor::kv_a_norm);
    if (model.layer_kind(l).moe && model.moe.router == RouterKind::sigmoid_grouped) {
      w.router_bias = values({l, slot::router_bias}, router_bias_values(model, seed, l));
    }
  }

  const auto rows = [&](Tensor tensor) {
    WeightSlice slice = whole_tensor(model, seed, tensor);
    slice.row0 = rank.vocab().begin;
    slice.rows = rank.vocab().size();
    return slice;
  };
  if (rank.first_stage()) embedding_ = table({head_layer, slot::embedding}, rows(Tensor::embedding));
  if (rank.last_stage()) {
    lm_head_ = packed({head_layer, slot::lm_head}, {{{rows(Tensor::lm_head)}}}, dtype);
    final_norm_ = values({head_layer, slot::final_norm}, gain_values(model, seed, Tensor::final_norm));
  }
  previous_.clear();
}

}  // namespace helix
