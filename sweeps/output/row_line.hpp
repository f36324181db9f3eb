// A row in a line, for who watches a sweep.
#pragma once

#include <string>

#include "sweeps/results/result_row.hpp"

namespace helix {

/// "llama-3.2-1b/tp/...  106.453 ms +- 0.4 % of 21 samples, model +11.5 %; note", or "skipped ...: reason".
std::string row_line(const ResultRow& row);

}  // namespace helix
