#include "roofline/validate/measured_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <string_view>

#include "roofline/base/error.hpp"

namespace helix {

namespace {

/// Whether the words after a model's name say nothing of its shape: "-Instruct-FP8", "-0528", "-Thinking-2507".
bool same_shape(std::string_view words) {
  constexpr std::array<std::string_view, 11> known = {
      "bf16", "fp8", "fp4", "nvfp4", "mxfp4", "instruct", "chat", "base", "thinking", "it", "hf"};
  while (!words.empty()) {
    if (words.front() != '-') return false;
    words.remove_prefix(1);
    const std::string_view word = words.substr(0, words.find('-'));
    const bool date = word.size() == 4 && word.find_first_not_of("0123456789") == word.npos;
    if (!date && std::ranges::find(known, word) == known.end()) return false;
    words.remove_prefix(word.size());
  }
  return true;
}

}  // namespace

const ModelSpec* known_model(const std::string& name) {
  static std::map<std::string, std::optional<ModelSpec>> models;
  const auto found = models.find(name);
  if (found != models.end()) return found->second ? &*found->second : nullptr;
  std::optional<ModelSpec>& model = models[name];
  std::string last = name.substr(name.rfind('/') + 1);
  std::ranges::transform(last, last.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (last.starts_with("meta-llama-")) last.erase(0, std::string_view("meta-").size());
  for (const std::string& built_in : built_in_models()) {
    if (last.starts_with(built_in) && same_shape(std::string_view(last).substr(built_in.size())))
      model = load_model(built_in);
  }
  return model ? &*model : nullptr;
}

DType measured_storage(const MeasuredRow& row, const char* column) {
  const std::string& text = row.text(column);
  if (text == "bfloat16" || text == "float16" || text == "bf16" || text == "auto") return DType::bf16;
  if (text.starts_with("fp8")) return DType::fp8;
  if (text.find("fp4") != std::string::npos) return DType::nvfp4;
  throw UsageError(
      fmt::format("{}: {} = '{}'; valid: bf16, fp8, fp8_block, nvfp4", row.where(), column, text));
}

void take_measured_weights(const MeasuredRow& row, const ModelSpec& model, DecodeShape& shape) {
  const std::string& text = row.text("weight_dtype");
  const WeightPart most = model.moe.experts > 0 ? WeightPart::routed_experts : WeightPart::dense_ffn;
  const bool mxfp4 = text.find("mxfp4") != std::string::npos;
  const DType dtype = mxfp4 ? DType::mxfp4 : measured_storage(row, "weight_dtype");
  const DType own = model.weights[most].dtype;
  const bool own_four_bits = own == DType::mxfp4 && dtype == DType::nvfp4;  // "fp4" does not say whose scales
  if (own == dtype || own_four_bits) {
    WeightRequest().apply(model, shape);
    return;
  }
  WeightRequest request(mxfp4 ? DType::bf16 : dtype);
  request.set(WeightPart::lm_head, DType::bf16);
  if (mxfp4) request.set(WeightPart::routed_experts, DType::mxfp4);
  if (dtype == DType::nvfp4 && model.attention.kind == AttentionKind::mla)
    request.set(WeightPart::attention, DType::bf16);
  request.apply(model, shape);
  if (text != "fp8_block" || !shape.weights) return;
  constexpr double block = 128 * 128;
  for (const WeightPart part : weight_parts) {
    WeightFormat& format = (*shape.weights)[part];
    if (format.dtype == DType::fp8) format.bytes += fp32_bytes / block;
  }
}

Engine measured_engine(const MeasuredRow& row) {
  const std::string& text = row.has("engine") ? row.text("engine") : std::string();
  const std::string first = text.substr(0, text.find(' '));
  return first.empty() ? Engine::trtllm : parse_engine(first);
}

}  // namespace helix
