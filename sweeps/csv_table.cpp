#include "sweeps/csv_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "roofline/error.hpp"

namespace helix {

CsvTable::CsvTable(const std::filesystem::path& path) : path_(path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw UsageError(fmt::format("'{}' cannot be read", path.string()));
  }
  records_ = read_csv(file);
  if (records_.empty()) throw UsageError(fmt::format("'{}' is empty", path.string()));
  header_ = std::move(records_.front());
  records_.erase(records_.begin());
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (records_[i].size() == header_.size()) continue;
    fail(i, fmt::format("{} fields under {} columns", records_[i].size(), header_.size()));
  }
}

void CsvTable::require(std::string_view column) const {
  if (!has(column)) throw UsageError(fmt::format("'{}' has no column '{}'", path_.string(), column));
}

const std::string& CsvTable::text(std::size_t record, std::string_view column) const {
  require(column);
  return records_[record][position(column)];
}

int CsvTable::width(std::size_t record, std::string_view column) const {
  return static_cast<int>(count(record, column, rank_count));
}

std::int64_t CsvTable::count(std::size_t record, std::string_view column, const Quantity& quantity) const {
  return parse_count(text(record, column), quantity, where(record, column));
}

double CsvTable::positive(std::size_t record, std::string_view column) const {
  return parse_real(text(record, column), 1e-9, 1e18, where(record, column));
}

void CsvTable::fail(std::size_t record, const std::string& what) const {
  throw UsageError(fmt::format("'{}', line {}: {}", path_.string(), record + 2, what));
}

std::size_t CsvTable::position(std::string_view column) const {
  return static_cast<std::size_t>(std::ranges::find(header_, column) - header_.begin());
}

std::string CsvTable::where(std::size_t record, std::string_view column) const {
  return fmt::format("'{}', line {}, {}", path_.string(), record + 2, column);
}

}  // namespace helix
