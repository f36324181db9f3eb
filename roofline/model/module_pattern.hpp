// Which modules of a checkpoint an entry of a quantization configuration names.
#pragma once

#include <regex>
#include <string>
#include <string_view>
#include <vector>

namespace helix {

/// Entries as the writers of checkpoints have them: "lm_head" and "model.layers.0.mlp.gate" are whole
/// components of a module's name, "model.layers.*.self_attn*" has wildcards, "re:.*mlp\.down_proj" is a
/// regular expression from the name's beginning. The wrapper of a multimodal model's text part
/// ("language_model.") is left out of both.
class ModulePatterns {
 public:
  /// Throws std::regex_error for an unusable expression.
  void add(std::string entry);
  bool match(const std::string& module) const;

 private:
  std::vector<std::string> names_, wildcards_;
  std::vector<std::regex> expressions_;
};

}  // namespace helix
