// The commands of helix-bench: one function and one file each.
#pragma once

#include <string>
#include <vector>

namespace helix {

/// What follows the command's name on the command line.
using Arguments = std::vector<std::string>;

/// All return the exit code and throw UsageError for arguments that are no use.
int sweep_command(const Arguments& arguments);
int predict_command(const Arguments& arguments);
int verify_command(const Arguments& arguments);
int generate_command(const Arguments& arguments);
int calibrate_command(const Arguments& arguments);
int compare_command(const Arguments& arguments);
int report_command(const Arguments& arguments);
int export_command(const Arguments& arguments);
int list_command(const Arguments& arguments);

}  // namespace helix
