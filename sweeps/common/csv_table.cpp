#include "sweeps/common/csv_table.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "roofline/base/error.hpp"
#include "sweeps/common/files.hpp"

namespace helix {

CsvTable::CsvTable(const std::filesystem::path& path)
    : path_(path),
      file_(path, std::ios::binary),
      reader_(file_, path.string(), CsvReader::LastLine::is_torn) {
  constexpr std::uintmax_t largest = std::uintmax_t{1} << 30;  // millions of rows
  require_readable(path, largest);
  if (!reader_.next(header_)) throw UsageError(fmt::format("'{}' is empty", path.string()));
}

bool CsvTable::next() {
  if (!reader_.next(row_)) return false;
  if (row_.size() != header_.size()) {
    fail(fmt::format("{} fields under {} columns", row_.size(), header_.size()));
  }
  return true;
}

void CsvTable::refuse_torn() const {
  if (torn()) fail("the row breaks off; `sweep --resume` drops a row that a killed run left unfinished");
}

std::size_t CsvTable::position(std::string_view column) const {
  return static_cast<std::size_t>(std::ranges::find(header_, column) - header_.begin());
}

void CsvTable::require(std::string_view column) const {
  if (!has(column)) throw UsageError(fmt::format("'{}' has no column '{}'", path_.string(), column));
}

const std::string& CsvTable::text(std::string_view column) const {
  require(column);
  return row_[position(column)];
}

int CsvTable::width(std::string_view column) const {
  return static_cast<int>(count(column, rank_count));
}

std::int64_t CsvTable::count(std::string_view column, const Quantity& quantity) const {
  return parse_count(text(column), quantity, where(column));
}

double CsvTable::positive(std::string_view column) const {
  return parse_real(text(column), 1e-9, 1e18, where(column));
}

std::string CsvTable::where(std::string_view column) const {
  return fmt::format("'{}', line {}, {}", path_.string(), line(), column);
}

}  // namespace helix
