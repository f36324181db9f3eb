// What a row of a step's measurement says of the model, its storage and the engine.
#pragma once

#include "roofline/model/model_spec.hpp"
#include "roofline/step/weight_request.hpp"
#include "roofline/system/engine.hpp"
#include "roofline/validate/measured_rows.hpp"

namespace helix {

/// A built-in name, or the last part of a Hugging Face path, whose last words may tell other weights of the same shape
/// ("-Instruct-2507-FP8"). Nothing if it is not known.
const ModelSpec* known_model(const std::string& name);
DType measured_storage(const MeasuredRow& row, const char* column);
/// Gives the shape the weights of the checkpoint that the row's `weight_dtype` means: the model's own where it has that
/// type; else the common one, whose LM head stays in 16 bits, as MLA's attention does in those of NVFP4, and all but
/// the experts in those of MXFP4.
void take_measured_weights(const MeasuredRow& row, const ModelSpec& model, DecodeShape& shape);
/// The engine named first: "vllm 0.25.1". TensorRT-LLM where none is.
Engine measured_engine(const MeasuredRow& row);

}  // namespace helix
