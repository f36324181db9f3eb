// A CSV file whose fields are asked for by the name of their column, so that another version's additional
// columns do not matter. Errors are UsageErrors that name the file, the line and the column.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "sweeps/csv.hpp"
#include "sweeps/list_syntax.hpp"

namespace helix {

class CsvTable {
 public:
  /// Throws if the file cannot be read, is empty, or has a line that is longer or shorter than the header.
  explicit CsvTable(const std::filesystem::path& path);

  std::size_t size() const { return records_.size(); }
  bool has(std::string_view column) const { return position(column) < header_.size(); }
  void require(std::string_view column) const;

  const std::string& text(std::size_t record, std::string_view column) const;
  int width(std::size_t record, std::string_view column) const;
  std::int64_t count(std::size_t record, std::string_view column, const Quantity& quantity) const;
  double positive(std::size_t record, std::string_view column) const;

  [[noreturn]] void fail(std::size_t record, const std::string& what) const;

 private:
  std::size_t position(std::string_view column) const;
  std::string where(std::size_t record, std::string_view column) const;

  std::filesystem::path path_;
  CsvRecord header_;
  std::vector<CsvRecord> records_;
};

}  // namespace helix
