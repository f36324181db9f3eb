#include "roofline/step/model_facts.hpp"

#include "roofline/base/arithmetic.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/kv_stores.hpp"
#include "roofline/step/state_ops.hpp"

namespace helix {
namespace {

/// Sum over the layers with attention of what `of_store` says about each of their stores.
template <class OfStore>
double sum_stores(const ModelSpec& model, DType kv_dtype, std::int64_t context, OfStore of_store) {
  double values = 0;
  for (const LayerGroup& group : model.layer_groups()) {
    if (group.kind.mixer != Mixer::attention) continue;
    const AttentionSpec& attention = model.attention_of(group.kind);
    for (const KvStore& store : kv_stores(attention, {.context = context, .kv_heads = attention.kv_heads}))
      values += real(group.count * store.values) * of_store(store);
  }
  return values * bytes_per_value(kv_dtype);
}

}  // namespace

ParameterCount parameters(const ModelSpec& model) {
  ParameterCount count;
  const auto add = [&](double all, double of_token) {
    count.total += all;
    count.active += of_token;
  };
  for (const Op& op : decode_ops({model, {}, {.context = 1}})) {
    if (const auto* product = std::get_if<GemmShape>(&op.shape)) {
      const double weights = op.count * real(product->matrices * product->n) * real(product->k);
      add(weights, weights);
    } else if (const auto* moe = std::get_if<MoeShape>(&op.shape)) {
      const double expert = op.count * real(moe->matrices * moe->hidden * moe->ffn);
      add(expert * real(moe->local_experts), expert * real(moe->top_k));
    } else if (const auto* state = std::get_if<StateShape>(&op.shape)) {
      add(op.count * real(state->conv_weights), op.count * real(state->conv_weights));
    }
  }
  if (!model.tied_embeddings) add(real(model.vocab * model.hidden), 0);
  return count;
}

double kv_bytes_per_token(const ModelSpec& model, DType kv_dtype) {
  return sum_stores(model, kv_dtype, 1 << 20, [](const KvStore& store) {
    return store.held > 0 ? 1 / real(store.tokens_per_entry) : 0.0;
  });
}

double kv_bytes_held(const ModelSpec& model, DType kv_dtype, std::int64_t context) {
  return sum_stores(model, kv_dtype, context, [](const KvStore& store) { return real(store.held); });
}

double kv_bytes_read(const ModelSpec& model, DType kv_dtype, std::int64_t context) {
  return sum_stores(model, kv_dtype, context, [](const KvStore& store) { return real(store.read); });
}

double state_bytes_per_request(const ModelSpec& model) {
  double bytes = 0;
  for (const LayerGroup& group : model.layer_groups()) {
    if (group.kind.mixer == Mixer::state) bytes += real(group.count) * state_bytes(*model.state, 1);
  }
  return bytes;
}

ModelFigures model_figures(const ModelSpec& model, const DecodeShape& shape) {
  return {.active_parameters = parameters(model).active,
          .kv_bytes_per_token = kv_bytes_per_token(model, shape.kv_dtype),
          .kv_read_bytes_per_token = kv_bytes_read(model, shape.kv_dtype, shape.context),
          .state_bytes_per_request = state_bytes_per_request(model)};
}

}  // namespace helix
