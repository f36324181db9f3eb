#include "roofline/model/module_formats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "roofline/base/arithmetic.hpp"

namespace helix {
namespace {

/// Parameters of a layer's modules, which share a prefix.
struct Module {
  std::string name;
  double parameters;
};

/// But the output projection.
std::vector<Module> attention_modules(const AttentionSpec& a, double h) {
  const double q = real(a.q_heads * a.qk_head_dim);
  if (a.kind == AttentionKind::gqa) {
    const double k = real(a.kv_heads * a.qk_head_dim), v = real(a.kv_heads * a.v_head_dim);
    return {{"q_proj", h * q}, {"k_proj", h * k}, {"v_proj", h * v}};
  }
  const double latent = real(a.kv_lora_rank), q_rank = real(a.q_lora_rank);
  std::vector<Module> modules = {
      {"kv_a_proj_with_mqa", h * (latent + real(a.qk_rope_head_dim))},
      {"kv_b_proj", latent * real(a.q_heads * (a.qk_nope_head_dim + a.v_head_dim))}};
  if (a.q_lora_rank == 0) {
    modules.push_back({"q_proj", h * q});
  } else {
    modules.push_back({"q_a_proj", h * q_rank});
    modules.push_back({"q_b_proj", q_rank * q});
  }
  return modules;
}

/// The mean over modules, with the type that most of the parameters have.
class Mean {
 public:
  void add(const WeightFormat& format, double parameters) {
    parameters_[format.dtype] += parameters;
    bytes_ += format.bytes * parameters;
    total_ += parameters;
  }
  void store(WeightFormat& format) const {
    if (total_ == 0) return;
    const auto most =
        std::ranges::max_element(parameters_, {}, [](const auto& entry) { return entry.second; });
    format = {most->first, bytes_ / total_};
  }

 private:
  std::map<DType, double> parameters_;
  double bytes_ = 0, total_ = 0;
};

/// Names of the input and the output projection.
std::pair<const char*, const char*> state_modules(StateKind kind) {
  switch (kind) {
    case StateKind::gated_delta_net:
      return {"linear_attn.in_proj_qkvz", "linear_attn.out_proj"};
    case StateKind::kimi_delta_attention:
      return {"self_attn.q_proj", "self_attn.o_proj"};
    case StateKind::mamba2:
      break;
  }
  return {"mixer.in_proj", "mixer.out_proj"};
}

void add_mixer(std::map<WeightPart, Mean>& means, const ModuleFormats& formats, const ModelSpec& spec,
               const LayerKind& kind, const std::string& prefix) {
  if (kind.mixer == Mixer::attention) {
    for (const Module& m : attention_modules(spec.attention_of(kind), real(spec.hidden)))
      means[WeightPart::attention].add(formats.of(prefix + "self_attn." + m.name), m.parameters);
    means[WeightPart::output_projection].add(formats.of(prefix + "self_attn.o_proj"), 1);
  } else if (kind.mixer == Mixer::state) {
    const StateSpec& s = *spec.state;
    const auto [in, out] = state_modules(s.kind);
    const double inputs = 2 * real(s.key_heads * s.key_dim + s.heads * s.value_dim);
    means[WeightPart::attention].add(formats.of(prefix + in), inputs * real(spec.hidden));
    means[WeightPart::output_projection].add(formats.of(prefix + out), 1);
  }
}

}  // namespace

void store_formats(const ModuleFormats& formats, ModelSpec& spec) {
  std::map<WeightPart, Mean> means;
  const auto add_ffn = [&](WeightPart part, const std::string& prefix) {
    for (const char* projection : {"gate_proj", "up_proj", "down_proj"})
      means[part].add(formats.of(prefix + projection), 1);
  };
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const LayerKind kind = spec.layer_kind(layer);
    add_mixer(means, formats, spec, kind, prefix);
    if (kind.ffn == Ffn::dense) add_ffn(WeightPart::dense_ffn, prefix + "mlp.");
    if (!kind.moe()) continue;
    add_ffn(WeightPart::routed_experts, prefix + "mlp.experts.0.");
    if (spec.moe.shared_ffn > 0) add_ffn(WeightPart::shared_experts, prefix + "mlp.shared_experts.");
  }
  for (const auto& [part, mean] : means) mean.store(spec.weights[part]);
  if (!spec.tied_embeddings) spec.weights[WeightPart::lm_head] = formats.of("lm_head");
}

}  // namespace helix
