// The report as one HTML file that needs no other and no network.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "sweeps/report/plot.hpp"

namespace helix {

/// `pictures`: where SVGs of the plots lie, which viewers without scripts show; plots without one are left
/// to the script.
std::string report_page(std::span<const Run> runs, const std::vector<Plot>& plots,
                        const std::filesystem::path& pictures);

}  // namespace helix
