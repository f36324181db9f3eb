#include "roofline/model/draft_head.hpp"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "roofline/base/json_fields.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/model/config_file.hpp"
#include "roofline/model/config_limits.hpp"

namespace helix {
namespace {

constexpr std::string_view head_class = "LlamaForCausalLMEagle3";

void require_head(const JsonFields& config) {
  const auto* classes = config.array("architectures");
  const bool is_head = classes && classes->size() == 1 && classes->front() == head_class;
  if (!is_head || config.text("model_type") != "llama") {
    config.refuse(is_head ? "model_type" : "architectures",
                  fmt::format("no draft head; supported: {} with model_type llama", head_class));
  }
  if (config.whole("num_hidden_layers", limits::layers) != 1)
    config.refuse("num_hidden_layers", "an Eagle-3 head has one layer");
}

void require_head_of(const JsonFields& config, const ModelSpec& model) {
  const char* const fed = config.has("target_hidden_size") ? "target_hidden_size" : "hidden_size";
  if (config.whole(fed, limits::hidden) != model.hidden) {
    config.refuse(fed,
                  fmt::format("not the head of {}, whose layers give {} values", model.name, model.hidden));
  }
  if (config.whole("vocab_size", limits::vocab) != model.vocab)
    config.refuse("vocab_size",
                  fmt::format("not the head of {}, which has {} tokens", model.name, model.vocab));
  if (config.whole_or("draft_vocab_size", limits::vocab, model.vocab) > model.vocab)
    config.refuse("draft_vocab_size", fmt::format("{} has {} tokens", model.name, model.vocab));
}

/// The llama that is left without what only a head has.
nlohmann::json as_llama(nlohmann::json config) {
  constexpr std::array of_heads = {"draft_vocab_size", "target_hidden_size", "architectures"};
  for (const char* key : of_heads) config.erase(key);
  return config;
}

}  // namespace

ModelSpec with_draft_head(ModelSpec model, std::string_view json_text, const std::string& origin) {
  const nlohmann::json root = parse_json(json_text, origin);
  const JsonFields config(root, origin);
  require_head(config);
  require_head_of(config, model);
  ModelSpec head = parse_model(as_llama(root).dump(), origin);
  head.name = model_name(origin);
  // Without tokens of its own it chooses among the model's, with the model's LM head.
  head.tied_embeddings = head.tied_embeddings || !config.has("draft_vocab_size");
  head.vocab = config.whole_or("draft_vocab_size", limits::vocab, model.vocab);
  head.attention.input_width = 2 * head.hidden;  // a token's embedding beside its residual stream
  model.draft_head = std::make_shared<const ModelSpec>(std::move(head));
  model.draft_layers = 0;
  return model;
}

ModelSpec with_draft_head(ModelSpec model, const std::string& path) {
  const std::filesystem::path file = config_file(path);
  const std::string json_text = read_text_file(file.string(), "draft head's config.json");
  return with_draft_head(std::move(model), json_text, file.string());
}

}  // namespace helix
