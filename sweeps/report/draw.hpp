// Pictures of plots, drawn by plot_python().
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sweeps/report/plot.hpp"

namespace helix {

/// Writes NAME.svg and NAME.png of each plot into the directory. Returns why there are none, or nothing.
std::string draw_pictures(const std::vector<Plot>& plots, const std::filesystem::path& directory);

}  // namespace helix
