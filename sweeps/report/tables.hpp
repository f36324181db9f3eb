// The tables of a report's page, as HTML.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "sweeps/report/scenes.hpp"

namespace helix {

/// A line a run: what it is, how many rows it has, how far the model was off.
std::string summary_table(std::span<const Run> runs);
std::string rows_table(std::span<const Run> runs);
/// What was asked for and has no numbers, by reason: a sweep skips thousands for the same one. Empty: nothing.
std::string missing_rows(std::span<const Run> runs);
/// Where a run comes from.
std::string provenance(const Run& run);

/// Text for HTML: &, <, > and quotes become entities.
std::string html_text(std::string_view text);

}  // namespace helix
