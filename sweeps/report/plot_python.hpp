// The Python with vl_convert that plots are drawn with: looked for when it is needed, so that an installed
// program finds one wherever it is.
#pragma once

#include <string>
#include <string_view>

namespace helix {

/// $HELIX_PLOT_PYTHON, else that of a .venv in a folder above the program (the repository's, or an
/// installation prefix's), else the one that the build was told of, else python3.
std::string plot_python();

/// The JavaScript of Vega-Lite for the report's page: compiled in if the build found it, else
/// asked of plot_python().
/// @throws UsageError if neither has it
const std::string& vega_javascript();

/// One word of a shell command.
std::string shell_quoted(std::string_view text);

}  // namespace helix
