#include "roofline/validate/measured_rows.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {

const std::string& MeasuredRow::text(const char* column) const {
  const auto at = columns_.find(column);
  if (at == columns_.end()) throw UsageError(fmt::format("{}: column '{}' is missing", where_, column));
  if (at->second >= cells_.size()) throw UsageError(fmt::format("{}: the row is too short", where_));
  return cells_[at->second];
}

double MeasuredRow::number(const char* column) const {
  const std::string& t = text(column);
  double value = 0;
  const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), value);
  if (error != std::errc{} || end != t.data() + t.size() || !std::isfinite(value) || value < 0) {
    throw UsageError(fmt::format("{}: {} = '{}' is not a number from 0 on", where_, column, excerpt(t)));
  }
  return value;
}

double MeasuredRow::positive(const char* column) const {
  const double value = number(column);
  if (value <= 0) throw UsageError(fmt::format("{}: {} must be positive", where_, column));
  return value;
}

std::int64_t MeasuredRow::count(const char* column) const {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  const double value = number(column);
  if (value < 1 || value > most || value != std::floor(value)) {
    throw UsageError(fmt::format("{}: {} = '{}' is not a whole number from 1 to {}", where_, column,
                                 excerpt(text(column)), most));
  }
  return static_cast<std::int64_t>(value);
}

}  // namespace helix
