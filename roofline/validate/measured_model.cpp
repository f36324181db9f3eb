#include "roofline/validate/measured_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <string_view>

#include "roofline/base/error.hpp"

namespace helix {

const ModelSpec* known_model(const std::string& name) {
  static std::map<std::string, std::optional<ModelSpec>> models;
  const auto found = models.find(name);
  if (found != models.end()) return found->second ? &*found->second : nullptr;
  std::optional<ModelSpec>& model = models[name];
  std::string last = name.substr(name.rfind('/') + 1);
  std::ranges::transform(last, last.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::vector<std::string> built_in = built_in_models();
  // The precision, for which rows have a column of their own, may end the name.
  for (const std::string_view precision : {"", "-bf16", "-fp8", "-fp4", "-nvfp4", "-mxfp4"}) {
    if (model || !last.ends_with(precision)) continue;
    const auto match = std::ranges::find(built_in, last.substr(0, last.size() - precision.size()));
    if (match != built_in.end()) model = load_model(*match);
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
  if (model.weights[most].dtype == dtype) {
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
