#include "sweeps/results/row_text.hpp"

#include <fmt/format.h>

namespace helix {

std::string token_text(std::int64_t count) {
  if (count >= 1 << 20 && count % (1 << 20) == 0) return fmt::format("{}M", count >> 20);
  if (count >= 1 << 10 && count % (1 << 10) == 0) return fmt::format("{}K", count >> 10);
  return fmt::format("{}", count);
}

std::string sharding_text(const Sharding& s) {
  std::string text = fmt::format("KVP {} TPA {} > TPF {} EP {}", s.kvp, s.tpa, s.tpf, s.ep);
  if (s.pp > 1) text += fmt::format(" PP {}", s.pp);
  if (s.dp > 1) text += fmt::format(" DP {}", s.dp);
  return text;
}

std::string sharding_text(const Configuration& config) {
  std::string text = sharding_text(config.sharding);
  if (config.shape.hop_b > 1) text += fmt::format(" HOP-B {}", config.shape.hop_b);
  if (config.shape.draft_tokens > 0) text += fmt::format(" drafts {}", config.shape.draft_tokens);
  if (!config.draft_head.empty()) text += fmt::format(" of {}", config.draft_head);
  if (config.shape.draft_kv == DraftKv::local) text += " local";
  return text;
}

std::string short_sharding_text(const Configuration& config) {
  const Sharding& s = config.sharding;
  const auto part = [](char letter, int width) {
    return width > 1 ? fmt::format("{}{}", letter, width) : std::string();
  };
  const std::string attention = part('D', s.dp) + part('K', s.kvp) + part('T', s.tpa);
  const std::string ffn = part('F', s.tpf) + part('E', s.ep);
  std::string text = attention.empty() ? "1" : attention;
  text += '>';
  text += ffn.empty() ? "1" : ffn;
  text += part('P', s.pp);
  if (config.shape.hop_b > 1) text += fmt::format(" H{}", config.shape.hop_b);
  if (config.shape.draft_tokens > 0) text += fmt::format(" +{}", config.shape.draft_tokens);
  if (config.shape.draft_kv == DraftKv::local) text += " local";
  return text;
}

void add_caveat(std::string& reason, const std::string& caveat) {
  if (!reason.empty() && !caveat.empty()) reason += "; ";
  reason += caveat;
}

std::string long_context(const ModelSpec& model, std::int64_t context) {
  if (model.max_position == 0 || context <= model.max_position) return {};
  return fmt::format("context beyond max_position_embeddings = {}", model.max_position);
}

std::string precision_text(DType weights, DType kv) {
  return fmt::format("{}/{}", name(weights), name(kv));
}

}  // namespace helix
