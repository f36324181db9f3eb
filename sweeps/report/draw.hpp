// Pictures of plots, drawn by a Python that has vl_convert.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sweeps/report/plot.hpp"

namespace helix {

/// Writes NAME.svg and NAME.png of each plot into the directory. Returns why there are none, or nothing.
/// The Python: $HELIX_PLOT_PYTHON, else the one that the build found, else python3.
std::string draw_pictures(const std::vector<Plot>& plots, const std::filesystem::path& directory);

}  // namespace helix
