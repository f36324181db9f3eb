// Fields that the experts of all architectures have, by whatever name.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// What the fields are called.
struct MoeKeys {
  const char* experts = "num_experts";
  const char* top_k = "num_experts_per_tok";
  const char* width = "moe_intermediate_size";
  const char* shared_count = nullptr;  // of shared experts, each of the routed ones' width
  const char* shared_width = nullptr;  // of all shared experts together
};

/// The first of these that the file has, else the first.
const char* present(const JsonFields& config, std::initializer_list<const char*> keys);

/// Number and widths of the experts, those of the shared ones included.
void read_experts(const JsonFields& config, MoeSpec& moe, const MoeKeys& keys,
                  std::int64_t shared_by_default = 0);

void read_dense_width(const JsonFields& config, ModelSpec& spec, const char* key = "intermediate_size");

/// Experts in the layers that `moe` says so of; a dense FFN in the others, whose width must then be there.
template <class IsMoe>
void place_experts(const JsonFields& config, ModelSpec& spec, IsMoe moe, const char* dense_width) {
  bool dense = false;
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    Ffn& ffn = spec.layer_kinds[static_cast<std::size_t>(layer)].ffn;
    ffn = moe(layer) ? Ffn::moe : Ffn::dense;
    dense = dense || ffn == Ffn::dense;
  }
  if (dense) read_dense_width(config, spec, dense_width);
}

/// Experts after the first dense layers (first_k_dense_replace), unless something says it layer by layer:
/// mlp_layer_types, moe_layer_freq.
void place_experts_after_dense(const JsonFields& config, ModelSpec& spec, std::int64_t first_by_default,
                               const char* dense_width = "intermediate_size");

struct RouterDefaults {
  std::string_view scoring_func, topk_method;
  bool normalize_top_k;
  bool reads_norm_topk_prob;  // the class of DeepSeek-V2 does not
  double routed_scaling_factor;
  std::int64_t groups = 1, top_groups = 1;
};
void read_router(const JsonFields& config, ModelSpec& spec, const MoeKeys& keys,
                 const RouterDefaults& defaults);

}  // namespace helix
