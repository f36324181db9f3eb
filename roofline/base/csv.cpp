#include "roofline/base/csv.hpp"

#include <fmt/format.h>

#include <utility>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

constexpr int end_of_text = std::istream::traits_type::eof();

}  // namespace

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string csv_line(std::span<const std::string> fields) {
  std::string line;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) line += ',';
    line += csv_field(fields[i]);
  }
  return line + '\n';
}

CsvReader::CsvReader(std::istream& in, std::string source, LastLine last_line)
    : in_(in), source_(std::move(source)), last_line_(last_line) {}

void CsvReader::fail(std::string_view what) const {
  fail_at(first_line_, what);
}

void CsvReader::fail_at(std::size_t line, std::string_view what) const {
  throw UsageError(fmt::format("'{}', line {}: {}", source_, line, what));
}

int CsvReader::take() {
  const int c = in_.rdbuf()->sbumpc();
  if (c == '\n') ++next_line_;
  if (c == '\0') fail_at(next_line_, "a zero byte; the file is damaged, or no text");
  constexpr std::size_t longest = std::size_t{1} << 20;
  if (++bytes_ > longest) fail("a record of more than 1 MiB begins here; is a quote not closed?");
  return c;
}

bool CsvReader::next(CsvRecord& record) {
  first_line_ = next_line_;
  bytes_ = 0;
  torn_ = false;
  // Fields keep their memory from one record to the next.
  std::size_t fields = 0;
  const auto add_field = [&]() -> std::string& {
    if (fields == record.size()) record.emplace_back();
    record[fields].clear();
    return record[fields++];
  };
  int c = take();
  if (c == end_of_text) {
    record.clear();
    return false;
  }
  const auto ended = [&](bool quoted, std::size_t quote_line) {
    const bool is_record = at_end(quoted, quote_line);
    record.resize(is_record ? fields : 0);
    return is_record;
  };
  for (;; c = take()) {
    std::string& field = add_field();
    if (c == '"') {
      const std::size_t quote_line = next_line_;
      for (c = take();; c = take()) {
        if (c == end_of_text) return ended(true, quote_line);
        if (c != '"') {
          field += static_cast<char>(c);
        } else if (in_.rdbuf()->sgetc() == '"') {
          field += static_cast<char>(take());
        } else {
          break;
        }
      }
      c = take();
    } else {
      while (c != ',' && c != '\n' && c != '\r' && c != '"' && c != end_of_text) {
        field += static_cast<char>(c);
        c = take();
      }
      if (c == '"') fail_at(next_line_, "a quote in the middle of a field");
    }
    if (c == '\r') {
      c = take();
      if (c != '\n' && c != end_of_text) fail_at(next_line_, "a carriage return within a line");
    }
    if (c == end_of_text) return ended(false, 0);
    if (c == '\n') break;
    if (c != ',') fail_at(next_line_, "text after a closing quote");
  }
  record.resize(fields);
  return true;
}

bool CsvReader::at_end(bool quoted, std::size_t quote_line) {
  // A quote that swallowed whole lines is no cut.
  const bool cut = last_line_ == LastLine::is_torn && (!quoted || quote_line == next_line_);
  if (quoted && !cut) fail_at(quote_line, "a quote that is never closed");
  torn_ = cut;
  return !cut;
}

}  // namespace helix
