// CSV files of measurements: one row a measurement, cells by column name.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace helix {

using ColumnIndex = std::unordered_map<std::string, std::size_t>;

/// One row. Errors are UsageErrors that name `where`.
class MeasuredRow {
 public:
  MeasuredRow(const ColumnIndex& columns, const std::vector<std::string>& cells, std::string where)
      : columns_(columns), cells_(cells), where_(std::move(where)) {}

  bool has(const char* column) const { return columns_.contains(column); }
  const std::string& text(const char* column) const;
  /// From 0 on.
  double number(const char* column) const;
  double positive(const char* column) const;
  /// From 1 on, and few enough for products of two to fit 64 bits.
  std::int64_t count(const char* column) const;
  /// A column that may be absent.
  std::int64_t count_or(const char* column, std::int64_t otherwise) const {
    return has(column) && !text(column).empty() ? count(column) : otherwise;
  }
  bool flag(const char* column) const { return has(column) && number(column) != 0; }
  const std::string& where() const { return where_; }

 private:
  const ColumnIndex& columns_;
  const std::vector<std::string>& cells_;
  std::string where_;
};

}  // namespace helix
