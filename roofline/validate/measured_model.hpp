// What a row of a step's measurement says of the model, its storage and the engine.
#pragma once

#include "roofline/model/model_spec.hpp"
#include "roofline/step/weight_request.hpp"
#include "roofline/system/engine.hpp"
#include "roofline/validate/measured_rows.hpp"

namespace helix {

/// A built-in name, or the last part of a Hugging Face path. Nothing if it is not known.
const ModelSpec* known_model(const std::string& name);
DType measured_storage(const MeasuredRow& row, const char* column);
/// `weight_dtype`; of MXFP4 checkpoints the experts alone are in 4 bits.
WeightRequest measured_weights(const MeasuredRow& row);
/// The engine named first: "vllm 0.25.1". TensorRT-LLM where none is.
Engine measured_engine(const MeasuredRow& row);

}  // namespace helix
