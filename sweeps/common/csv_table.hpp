// A CSV file of a run directory, row by row: fields are asked for by the name of their column, so that
// another version's additional columns do not matter. Errors are UsageErrors that name the file, the line and
// the column.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "roofline/base/csv.hpp"
#include "sweeps/common/list_syntax.hpp"

namespace helix {

class CsvTable {
 public:
  /// Throws if the file is none, cannot be read, is empty, or is larger than any run's.
  explicit CsvTable(const std::filesystem::path& path);

  /// To the next row; false at the end. Throws if the row is malformed, or longer or shorter than the header;
  /// a last row that is torn ends the table.
  bool next();
  /// At the end: the file ends within a row, whose writer was killed.
  bool torn() const { return reader_.torn(); }
  /// Throws if it does: for those who cannot mend it.
  void refuse_torn() const;

  const CsvRecord& header() const { return header_; }
  const CsvRecord& row() const { return row_; }
  std::size_t line() const { return reader_.line(); }

  /// Index into a row; the number of columns if there is none of this name.
  std::size_t position(std::string_view column) const;
  bool has(std::string_view column) const { return position(column) < header_.size(); }
  void require(std::string_view column) const;

  // Of the row.
  const std::string& text(std::string_view column) const;
  int width(std::string_view column) const;
  std::int64_t count(std::string_view column, const Quantity& quantity) const;
  double positive(std::string_view column) const;
  [[noreturn]] void fail(std::string_view what) const { reader_.fail(what); }

 private:
  std::string where(std::string_view column) const;

  std::filesystem::path path_;
  std::ifstream file_;
  CsvReader reader_;
  CsvRecord header_, row_;
};

}  // namespace helix
