// RFC 4180 records, written and read one after the other: results.csv and its companions, and the files of
// measured kernels.
#pragma once

#include <istream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace helix {

using CsvRecord = std::vector<std::string>;

/// Quotes a field where commas, quotes or line breaks in it make that necessary.
std::string csv_field(std::string_view text);
/// One record with its line end "\n".
std::string csv_line(std::span<const std::string> fields);

/// Reads records as they come: memory is that of one of them, whatever the length of the text. Malformed text
/// is a UsageError that names source and line.
class CsvReader {
 public:
  /// What a last line without a line end is.
  enum class LastLine {
    may_lack_end,  // a record, as editors and RFC 4180 have it
    is_torn,       // no record: its writer, which ends each one, was cut off in it
  };

  /// `source` names the text in errors.
  CsvReader(std::istream& in, std::string source, LastLine last_line);

  /// The next record; false at the end of the text, and then the record is empty.
  bool next(CsvRecord& record);
  /// The line, counted from 1, in which the last record begins; after the end that of a torn one.
  std::size_t line() const { return first_line_; }
  /// At the end: the text ends within a record. What is left of it is no record.
  bool torn() const { return torn_; }
  /// "'source', line N: what"; N is the line of the last record.
  [[noreturn]] void fail(std::string_view what) const;

 private:
  [[noreturn]] void fail_at(std::size_t line, std::string_view what) const;
  int take();
  bool at_end(bool quoted, std::size_t quote_line);

  std::istream& in_;
  std::string source_;
  LastLine last_line_;
  std::size_t next_line_ = 1, first_line_ = 1, bytes_ = 0;  // of the record that is read
  bool torn_ = false;
};

}  // namespace helix
