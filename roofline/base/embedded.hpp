// Text files that are compiled into the program (see helix_embed in cmake/HelixTargets.cmake).
#pragma once

#include <span>
#include <string_view>

namespace helix {

struct EmbeddedFile {
  std::string_view name;  // file name without its extension
  std::string_view text;
};

std::span<const EmbeddedFile> embedded_models();          // roofline/models/*.json
std::span<const EmbeddedFile> embedded_systems();         // roofline/systems/*.yaml
std::span<const EmbeddedFile> embedded_sweeps();          // sweeps/presets/*.yaml
std::span<const EmbeddedFile> embedded_report_page();     // sweeps/report/page.html
std::span<const EmbeddedFile> embedded_report_scripts();  // sweeps/report/page.js, vega.js if found by CMake
std::span<const EmbeddedFile> embedded_report_drawing();  // sweeps/report/draw.py

}  // namespace helix
