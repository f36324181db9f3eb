#include "bench/list_models.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "roofline/step/model_facts.hpp"
#include "sweeps/common/text_table.hpp"

namespace helix {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::pair<const char*, std::int64_t>, 3> contexts = {
    {{"8k", 1 << 13}, {"128k", 1 << 17}, {"1m", 1 << 20}}};

/// "36 x attention window 128 + experts": the layers of a kind.
std::string describe(const ModelSpec& model, const LayerGroup& group) {
  std::string text;
  if (group.kind.mixer == Mixer::state) text = "state";
  if (group.kind.mixer == Mixer::attention) {
    const AttentionSpec& a = model.attention_of(group.kind);
    text = a.kind == AttentionKind::mla ? fmt::format("MLA {} heads", a.q_heads)
                                        : fmt::format("{} heads on {}", a.q_heads, a.kv_heads);
    if (a.window > 0) text += fmt::format(" {} {}", a.chunked ? "chunk" : "window", a.window);
    if (a.compression > 0) text += fmt::format(" {} in 1", a.compression);
    if (a.indexer.heads > 0)
      text += fmt::format(" top {}{}", a.indexer.top_k, a.indexer.reused ? " reused" : "");
  }
  const char* ffn = group.kind.ffn == Ffn::none ? "" : group.kind.moe() ? "experts" : "dense";
  if (!text.empty() && *ffn != '\0') text += " + ";
  return fmt::format("{} x {}{}", group.count, text, ffn);
}

ordered_json describe(const ModelSpec& model) {
  const ParameterCount count = parameters(model);
  const auto whole = [](double x) { return static_cast<std::int64_t>(x + 0.5); };
  ordered_json held, read, precision, layers = ordered_json::array();
  for (const auto& [label, tokens] : contexts) {
    held[label] = whole(kv_bytes_held(model, model.kv_dtype, tokens));
    read[label] = whole(kv_bytes_read(model, model.kv_dtype, tokens));
  }
  for (const WeightPart part : weight_parts) {
    if (model.has_part(part)) precision[std::string(name(part))] = name(model.weights[part].dtype);
  }
  precision["kv"] = name(model.kv_dtype);
  for (const LayerGroup& group : model.layer_groups()) layers.push_back(describe(model, group));
  ordered_json object{{"name", model.name},
                      {"parameters_total", whole(count.total)},
                      {"parameters_active", whole(count.active)},
                      {"kv_bytes_per_token", whole(kv_bytes_per_token(model, model.kv_dtype))},
                      {"kv_bytes_read_per_token_at", read},
                      {"kv_bytes_held_per_request_at", held},
                      {"state_bytes_per_request", whole(state_bytes_per_request(model))},
                      {"max_position_embeddings", nullptr},
                      {"layers", layers},
                      {"precision", precision},
                      {"left_out", model.left_out},
                      {"runnable", model.not_runnable.empty()}};
  if (model.max_position > 0) object["max_position_embeddings"] = model.max_position;
  if (!model.not_runnable.empty())
    object["reason"] = fmt::format("predicted only: {}", fmt::join(model.not_runnable, ", "));
  return object;
}

std::string bytes_text(double bytes) {
  constexpr double kib = 1024;
  if (bytes == 0) return "";
  if (bytes < kib * kib) return fmt::format("{:.4g} KiB", bytes / kib);
  if (bytes < kib * kib * kib) return fmt::format("{:.4g} MiB", bytes / kib / kib);
  return fmt::format("{:.4g} GiB", bytes / kib / kib / kib);
}

}  // namespace

ordered_json describe_models(const std::vector<std::string>& names) {
  ordered_json models = ordered_json::object();
  for (const std::string& model_name : names) {
    const ModelSpec model = load_model(model_name);
    models[model.name] = describe(model);
  }
  return models;
}

std::string models_table(const std::vector<std::string>& names) {
  using enum TextColumn::Align;
  TextTable table({{"model"},
                   {"parameters", right},
                   {"active", right},
                   {"KV a token", right},
                   {"read at 8K", right, 3},
                   {"at 128K", right},
                   {"at 1M", right, 4},
                   {"state", right},
                   {"runs", left},
                   {"layers", left, 2}});
  for (const std::string& model_name : names) {
    const ModelSpec model = load_model(model_name);
    const ParameterCount count = parameters(model);
    const auto billions = [](double x) { return fmt::format("{:.4g} B", x / 1e9); };
    std::vector<std::string> layers;
    for (const LayerGroup& group : model.layer_groups()) layers.push_back(describe(model, group));
    std::vector<std::string> cells{model.name, billions(count.total), billions(count.active),
                                   bytes_text(kv_bytes_per_token(model, model.kv_dtype))};
    for (const auto& [label, tokens] : contexts)
      cells.push_back(bytes_text(kv_bytes_read(model, model.kv_dtype, tokens)));
    cells.push_back(bytes_text(state_bytes_per_request(model)));
    cells.emplace_back(model.not_runnable.empty() ? "yes" : "predicted");
    cells.push_back(fmt::format("{}", fmt::join(layers, ", ")));
    table.add(std::move(cells));
  }
  return table.text(terminal_width());
}

}  // namespace helix
