#include "sweeps/request/configuration_id.hpp"

#include <fmt/format.h>

namespace helix {
namespace {

/// "nvfp4", or "nvfp4+attention=bf16+head=bf16" where parts differ from what the first one means for all.
std::string weights_text(const DecodeShape& shape) {
  std::string text(name(shape.weight_dtype));
  DecodeShape plain = shape;
  plain.weights.reset();
  const DType attention = weight_format(shape, WeightPart::attention).dtype;
  for (const WeightPart part : weight_parts) {
    const DType dtype = weight_format(shape, part).dtype;
    if (part == WeightPart::output_projection && dtype == attention) continue;
    if (dtype != weight_format(plain, part).dtype) text += fmt::format("+{}={}", name(part), name(dtype));
  }
  return text;
}

}  // namespace

std::string configuration_id(const Configuration& config) {
  const Sharding& s = config.sharding;
  const DecodeShape& shape = config.shape;
  std::string id = fmt::format("{}/{}/kvp{}.tpa{}.tpf{}.ep{}", config.model, name(config.strategy), s.kvp,
                               s.tpa, s.tpf, s.ep);
  if (s.pp > 1) id += fmt::format(".pp{}", s.pp);
  if (s.dp > 1) id += fmt::format(".dp{}", s.dp);
  id += fmt::format("/s{}/b{}/{}-{}/blk{}", shape.context, shape.batch, weights_text(shape),
                    name(shape.kv_dtype), shape.tokens_per_block);
  if (traits(config.strategy).cuts_group) id += fmt::format("/{}", to_string(shape.exchange));
  if (shape.kernels != KernelMaker::own) id += fmt::format("/{}", name(shape.kernels));
  if (shape.hop_b > 1) id += fmt::format("/hop{}", shape.hop_b);
  if (shape.draft_tokens > 0) id += fmt::format("/draft{}", shape.draft_tokens);
  if (!config.draft_head.empty()) id += fmt::format("+{}", config.draft_head);
  if (shape.draft_kv == DraftKv::local) id += ".local";
  if (shape.draft_tokens > 0 && shape.acceptance > 0) id += fmt::format("/accept{:g}", shape.acceptance);
  if (shape.expert_skew > 0) id += fmt::format("/skew{}", shape.expert_skew);
  if (shape.redundant_experts > 0) id += fmt::format("/copies{}", shape.redundant_experts);
  if (config.layers > 0) id += fmt::format("/l{}", config.layers);
  return id;
}

}  // namespace helix
