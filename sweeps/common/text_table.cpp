#include "sweeps/common/text_table.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <sstream>

namespace helix {
namespace {

using Cells = std::vector<std::string>;

constexpr std::size_t gap = 2;

/// Characters after the decimal point, with it.
std::size_t fraction_size(const std::string& number) {
  const auto point = number.find('.');
  return point == std::string::npos ? 0 : number.size() - point;
}

/// Pads the numbers of a column on the right so that their points stand below one another.
void align_points(std::vector<Cells>& rows, std::size_t column) {
  std::size_t longest = 0;
  for (const Cells& row : rows) longest = std::max(longest, fraction_size(row[column]));
  for (Cells& row : rows) {
    if (!row[column].empty()) row[column].append(longest - fraction_size(row[column]), ' ');
  }
}

}  // namespace

std::string TextTable::text(std::optional<std::size_t> width) const {
  std::vector<Cells> rows = rows_;
  std::vector<std::size_t> shown;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const bool filled = std::ranges::any_of(rows, [&](const Cells& row) { return !row[i].empty(); });
    if (filled || rows.empty()) shown.push_back(i);
    if (columns_[i].align == TextColumn::Align::point) align_points(rows, i);
  }
  std::vector<std::size_t> widths(columns_.size());
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths[i] = columns_[i].head.size();
    for (const Cells& row : rows) widths[i] = std::max(widths[i], row[i].size());
  }
  const auto total = [&] {
    return std::accumulate(shown.begin(), shown.end(),
                           shown.empty() ? std::size_t{0} : (shown.size() - 1) * gap,
                           [&](std::size_t sum, std::size_t i) { return sum + widths[i]; });
  };
  while (width && total() > *width) {
    const auto least = std::ranges::max_element(shown, {}, [&](std::size_t i) { return columns_[i].drop; });
    if (least == shown.end() || columns_[*least].drop == 0) break;
    shown.erase(least);
  }
  while (width && total() > *width) {
    const auto widest = std::ranges::max_element(shown, {}, [&](std::size_t i) {
      return columns_[i].align == TextColumn::Align::left ? widths[i] : 0;
    });
    constexpr std::size_t narrowest = 8;
    if (widest == shown.end() || widths[*widest] <= narrowest) break;
    --widths[*widest];
  }

  std::string text;
  const auto add_line = [&](const auto& cell) {
    std::string line;
    for (const std::size_t i : shown) {
      std::string entry = cell(i);
      if (entry.size() > widths[i]) entry = entry.substr(0, widths[i] - 2) + "..";
      const bool left = columns_[i].align == TextColumn::Align::left;
      line += left ? fmt::format("{:<{}}", entry, widths[i]) : fmt::format("{:>{}}", entry, widths[i]);
      line.append(gap, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  add_line([&](std::size_t i) { return columns_[i].head; });
  for (const Cells& row : rows) add_line([&](std::size_t i) { return row[i]; });
  return text;
}

std::optional<std::size_t> terminal_width() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  if (const char* columns = std::getenv("COLUMNS")) {
    if (const int count = std::atoi(columns); count > 0) return static_cast<std::size_t>(count);
  }
  return std::nullopt;
}

std::string wrapped(const std::string& text, std::optional<std::size_t> width) {
  if (!width) return text;
  std::istringstream words(text);
  std::string out, line;
  for (std::string word; words >> word;) {
    if (!line.empty() && line.size() + 1 + word.size() > *width) {
      out += line + '\n';
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
  }
  return out + line;
}

}  // namespace helix
