// From a row of a run to what deploys it: what the formats share. See trtllm_config and vllm_command.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "roofline/error.hpp"
#include "roofline/model_spec.hpp"
#include "sweeps/run_reader.hpp"

namespace helix {

/// The ok row of this id. Throws UsageError: none, or one that has not run.
const ResultRow& deployable_row(const Run& run, const std::string& id);

/// The model if it is built in; a row knows only the name of another one.
std::optional<ModelSpec> model_of(const ResultRow& row);

/// Comment lines that open a configuration: which point it is, and its figures.
std::string deployment_header(const ResultRow& row);

/// "TensorRT-LLM cannot run ID: WHY".
UsageError not_deployable(std::string_view engine, const ResultRow& row, std::string_view why);

}  // namespace helix
