#include "roofline/model/quantization_config.hpp"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"
#include "roofline/model/module_formats.hpp"
#include "roofline/model/module_pattern.hpp"

namespace helix {
namespace {

constexpr WholeLimits bit_limits{2, 16};
constexpr WholeLimits block_limits{1, 1 << 20};

/// One format for all, but for modules that stay wide.
struct OneFormat : ModuleFormats {
  WeightFormat format;
  ModulePatterns wide;
  bool lm_head = false;       // written in the format, too
  bool experts_only = false;  // routed ones
  WeightFormat of(const std::string& module) const override {
    const bool expert = module.find(".experts.") != module.npos;
    const bool left_out = (module == "lm_head" && !lm_head) || (experts_only && !expert);
    return left_out || wide.match(module) ? WeightFormat{} : format;
  }
};

/// The first group whose targets name the module.
struct Groups : ModuleFormats {
  struct Group {
    bool every_linear = false;
    ModulePatterns targets;
    WeightFormat format;
  };
  std::vector<Group> groups;
  ModulePatterns wide;
  WeightFormat of(const std::string& module) const override {
    if (wide.match(module)) return {};
    for (const Group& group : groups) {
      if (group.every_linear || group.targets.match(module)) return group.format;
    }
    return {};
  }
};

struct Listed : ModuleFormats {
  std::map<std::string, WeightFormat> layers;
  WeightFormat of(const std::string& module) const override {
    const auto found = layers.find(module);
    return found == layers.end() ? WeightFormat{} : found->second;
  }
};

ModulePatterns patterns(const JsonFields& config, const char* key) {
  ModulePatterns found;
  const auto* entries = config.array(key);
  if (!entries) return found;
  for (const auto& entry : *entries) {
    if (!entry.is_string()) config.refuse(key, "expected an array of strings");
    try {
      found.add(entry.get<std::string>());
    } catch (const std::regex_error&) {
      config.refuse(
          key, fmt::format("'{:.60}' is no regular expression that can be used", entry.get<std::string>()));
    }
  }
  return found;
}

/// fp8 with an fp32 scale per block; the scales of rows, columns or whole tensors do not count.
WeightFormat fp8(const JsonFields& config, const char* block_key) {
  const auto* block = config.array(block_key);
  if (!block) return common_format(DType::fp8);
  double values = 1;
  for (const auto& side : *block) {
    if (!side.is_number_integer() || side.get<std::int64_t>() < 1 ||
        side.get<std::int64_t>() > block_limits.max) {
      config.refuse(block_key, "expected two whole numbers from 1");
    }
    values *= side.get<double>();
  }
  return {DType::fp8, 1 + fp32_bytes / values};
}

/// Integers of 4 or 8 bits with a bf16 scale and, where they are not symmetric, a zero point per group.
WeightFormat integers(const JsonFields& config, const char* bits_key, const char* group_key,
                      bool zero_points) {
  const std::int64_t bits = config.whole(bits_key, bit_limits);
  if (bits != 4 && bits != 8) config.refuse(bits_key, "only 4 and 8 are supported");
  const double bytes = real(bits) / 8;
  const auto* group = config.find(group_key);
  const bool grouped = group && group->is_number_integer() && group->get<std::int64_t>() > 0;
  const double per_group = bf16_bytes + (zero_points ? bytes : 0);
  return {bits == 4 ? DType::int4 : DType::int8,
          bytes + (grouped ? per_group / real(config.whole(group_key, block_limits)) : 0)};
}

/// A `weights` section of compressed-tensors.
WeightFormat compressed(const JsonFields& weights) {
  const std::int64_t bits = weights.whole("num_bits", bit_limits);
  const std::string type = weights.text_or("type", "int");
  if (type == "int") return integers(weights, "num_bits", "group_size", !weights.flag_or("symmetric", true));
  if (type != "float") weights.refuse("type", "expected \"int\" or \"float\"");
  if (bits == 8) return fp8(weights, "block_structure");
  if (bits == 16) return {};
  const std::int64_t group = weights.whole("group_size", block_limits);
  if (bits == 4 && group == 16) return common_format(DType::nvfp4);
  if (bits == 4 && group == 32) return common_format(DType::mxfp4);
  weights.refuse("num_bits", fmt::format("floats of {} bits in groups of {} are not supported", bits, group));
}

WeightFormat modelopt_format(const JsonFields& config, const char* key) {
  const std::string algorithm = config.text(key);
  if (algorithm == "FP8" || algorithm == "FP8_PER_CHANNEL_PER_TOKEN") return common_format(DType::fp8);
  if (algorithm == "FP8_PB_WO" || algorithm == "FP8_PB_REAL")
    return {DType::fp8, 1 + fp32_bytes / (128.0 * 128)};
  if (algorithm == "NVFP4" || algorithm == "NVFP4_AWQ" || algorithm == "W4A16_NVFP4")
    return common_format(DType::nvfp4);
  if (algorithm == "MXFP4" || algorithm == "W4A8_MXFP4_FP8") return common_format(DType::mxfp4);
  if (algorithm == "W4A16_AWQ" || algorithm == "W4A8_AWQ") {
    return config.has("group_size")
               ? WeightFormat{DType::int4, 0.5 + bf16_bytes / real(config.whole("group_size", block_limits))}
               : common_format(DType::int4);
  }
  if (algorithm == "W8A16" || algorithm == "W8A8_SQ_PER_CHANNEL") return common_format(DType::int8);
  config.refuse(key,
                "not a known algorithm; known: FP8, FP8_PB_WO, NVFP4, MXFP4, W4A16_AWQ, W4A8_AWQ, W8A16, "
                "MIXED_PRECISION");
}

void read_kv_cache_scheme(const JsonFields& config, ModelSpec& spec) {
  const auto scheme = config.object("kv_cache_scheme");
  if (!scheme) return;
  if (scheme->text_or("type", "float") != "float" || scheme->whole("num_bits", bit_limits) != 8) {
    config.refuse("kv_cache_scheme", "only floats of 8 bits are supported");
  }
  spec.kv_dtype = DType::fp8;
}

Groups config_groups(const JsonFields& config) {
  Groups rules;
  const auto groups = config.object("config_groups");
  if (!groups) config.refuse("config_groups", "expected an object");
  for (const auto& [name, value] : config.find("config_groups")->items()) {
    const auto group = groups->object(name.c_str());
    if (!group) continue;
    const auto weights = group->object("weights");
    if (!weights) continue;  // activations only
    Groups::Group& read = rules.groups.emplace_back();
    read.format = compressed(*weights);
    const auto* targets = group->array("targets");
    read.every_linear = !targets || std::ranges::find(*targets, nlohmann::json("Linear")) != targets->end();
    read.targets = patterns(*group, "targets");
  }
  rules.wide = patterns(config, "ignore");
  return rules;
}

void read_modelopt(const JsonFields& config, ModelSpec& spec) {
  if (config.has("kv_cache_quant_algo")) {
    const std::string kv = config.text("kv_cache_quant_algo");
    if (kv != "FP8" && kv != "NVFP4") config.refuse("kv_cache_quant_algo", "known: FP8, NVFP4");
    spec.kv_dtype = kv == "FP8" ? DType::fp8 : DType::nvfp4;
  }
  if (const auto layers = config.object("quantized_layers")) {
    Listed rules;
    for (const auto& [name, value] : config.find("quantized_layers")->items()) {
      if (const auto layer = layers->object(name.c_str()))
        rules.layers[name] = modelopt_format(*layer, "quant_algo");
    }
    return store_formats(rules, spec);
  }
  if (!config.has("quant_algo")) {
    if (config.has("config_groups")) store_formats(config_groups(config), spec);
    return;  // a KV cache of its own, wide weights
  }
  OneFormat rules;
  rules.format = modelopt_format(config, "quant_algo");
  rules.lm_head = true;
  rules.wide = patterns(config, config.has("exclude_modules") ? "exclude_modules" : "ignore");
  store_formats(rules, spec);
}

void read_one_format(const JsonFields& config, const std::string& method, ModelSpec& spec) {
  OneFormat rules;
  rules.wide = patterns(config, config.has("ignored_layers") ? "ignored_layers" : "modules_to_not_convert");
  if (method == "fp8" || method == "fbgemm_fp8") {
    rules.format = fp8(config, "weight_block_size");
  } else if (method == "mxfp4") {
    rules.format = common_format(DType::mxfp4);
    rules.experts_only = true;
  } else if (method == "awq" || method == "gptq") {
    rules.format =
        integers(config, "bits", "group_size", method == "gptq" || config.flag_or("zero_point", true));
    rules.lm_head = config.flag_or("lm_head", false);
  } else {  // bitsandbytes: a scale per 64 values, itself in 8 bits where it is quantised twice
    const bool four_bits = config.flag_or("load_in_4bit", false);
    const double scale = config.flag_or("bnb_4bit_use_double_quant", false) ? 1.0 : fp32_bytes;
    rules.format = four_bits ? WeightFormat{DType::int4, 0.5 + scale / 64} : WeightFormat{DType::int8, 1};
  }
  store_formats(rules, spec);
}

void read_quantization(const JsonFields& config, ModelSpec& spec) {
  const auto quantization = config.object("quantization_config");
  if (!quantization) return;
  const std::string method = quantization->text("quant_method");
  read_kv_cache_scheme(*quantization, spec);  // of any method
  if (method == "compressed-tensors" || method == "compressed_tensors") {
    return store_formats(config_groups(*quantization), spec);
  }
  if (method.starts_with("modelopt")) return read_modelopt(*quantization, spec);
  for (const char* known : {"fp8", "fbgemm_fp8", "mxfp4", "awq", "gptq", "bitsandbytes"}) {
    if (method == known) return read_one_format(*quantization, method, spec);
  }
  quantization->refuse(
      "quant_method",
      "not a known method; known: fp8, fbgemm_fp8, compressed-tensors, modelopt, mxfp4, awq, gptq, "
      "bitsandbytes");
}

}  // namespace

void read_precision(const JsonFields& config, ModelSpec& spec) {
  read_quantization(config, spec);
  // DeepSeek-V4 says it apart: fp8 blocks, but for its experts.
  if (config.has("expert_dtype")) {
    if (config.text("expert_dtype") != "fp4") config.refuse("expert_dtype", "only fp4 is supported");
    spec.weights[WeightPart::routed_experts] = common_format(DType::mxfp4);
  }
}

void read_hf_quant_config(const JsonFields& file, ModelSpec& spec) {
  if (const auto quantization = file.object("quantization")) read_modelopt(*quantization, spec);
}

}  // namespace helix
