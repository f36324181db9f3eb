// Tables for terminals: columns that are empty are left out, numbers stand with their decimal points below
// one another, and a table that is too wide drops what matters least.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace helix {

struct TextColumn {
  std::string head;
  enum class Align { left, right, point } align = Align::left;
  int drop = 0;  // the column with the largest number goes first; 0 stays
};

class TextTable {
 public:
  explicit TextTable(std::vector<TextColumn> columns) : columns_(std::move(columns)) {}
  /// As many cells as columns.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }

  /// Header and rows, a line each, of at most `width` characters if there is one: columns are dropped, and if
  /// those that stay are still too wide, the widest texts are cut.
  std::string text(std::optional<std::size_t> width) const;

 private:
  std::vector<TextColumn> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// The columns of the terminal that standard output is, else the variable COLUMNS, else nothing.
std::optional<std::size_t> terminal_width();

/// `text` in lines of at most `width` characters, broken at blanks; a word that is longer stays whole.
std::string wrapped(const std::string& text, std::optional<std::size_t> width);

}  // namespace helix
