// SGLang's command line of a row.
#pragma once

#include <string>

#include "sweeps/export/deployment.hpp"

namespace helix {

/// A shell command with what it cannot say as comments; MODEL in the environment names the checkpoint. Throws
/// UsageError for a layout that SGLang does not have.
std::string sglang_command(const DeployedPoint& point);

}  // namespace helix
