// The precision of a checkpoint: quantization_config of a Hugging Face config.json.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Fills spec.weights and spec.kv_dtype from `quantization_config` (fp8, fbgemm_fp8, compressed-tensors,
/// modelopt, mxfp4, awq, gptq, bitsandbytes), which names the modules that stay in bf16; a part of which
/// some modules are wide has the mean of the bytes. Router and embedding are in bf16 in all of them. Without
/// it everything is. The shapes of `spec` have been read before. Throws UsageError for a method or a format
/// that is not known.
void read_precision(const JsonFields& config, ModelSpec& spec);

/// The same from NVIDIA's hf_quant_config.json, which stands beside a config.json that has none.
void read_hf_quant_config(const JsonFields& file, ModelSpec& spec);

}  // namespace helix
