#include "sweeps/common/list_syntax.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <optional>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string valid_counts(const Quantity& q) {
  return fmt::format("integers from {} to {}{}", q.smallest, q.largest,
                     q.token_count ? ", also with k (1024) or m (1024 x 1024)" : "");
}

/// Nothing if `text` is no count of this quantity.
std::optional<std::int64_t> read_count(std::string_view text, const Quantity& q) {
  std::int64_t unit = 1;
  if (q.token_count && !text.empty()) {
    const char suffix = text.back();
    if (suffix == 'k' || suffix == 'K') unit = 1024;
    if (suffix == 'm' || suffix == 'M') unit = 1024 * 1024;
    if (unit > 1) text.remove_suffix(1);
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (value < q.smallest || value > q.largest / unit) return std::nullopt;
  return value * unit;
}

}  // namespace

std::vector<std::string> split_list(std::string_view text, const std::string& where) {
  std::vector<std::string> entries;
  for (std::string_view rest = text;;) {
    const auto comma = rest.find(',');
    const std::string_view entry = trimmed(rest.substr(0, comma));
    if (entry.empty()) {
      throw UsageError(fmt::format("{} '{}': empty entry; valid: entries separated by single commas", where,
                                   excerpt(text)));
    }
    entries.emplace_back(entry);
    if (comma == std::string_view::npos) return entries;
    rest.remove_prefix(comma + 1);
  }
}

std::vector<std::string> split_paths(std::string_view text, const std::string& where) {
  const auto exists = [](const std::string& path) {
    std::error_code error;
    return std::filesystem::exists(path, error);
  };
  if (text.find(',') != std::string_view::npos && exists(std::string(text))) return {std::string(text)};
  const std::vector<std::string> pieces = split_list(text, where);
  std::vector<std::string> paths;
  for (std::size_t first = 0; first < pieces.size();) {
    // The longest path of several pieces, else the piece.
    std::string joined = pieces[first], chosen = joined;
    std::size_t next = first + 1;
    for (std::size_t last = first + 1; last < pieces.size(); ++last) {
      joined += "," + pieces[last];
      if (!exists(joined)) continue;
      chosen = joined;
      next = last + 1;
    }
    if (std::ranges::find(paths, chosen) == paths.end()) paths.push_back(chosen);
    first = next;
  }
  return paths;
}

std::int64_t parse_count(std::string_view text, const Quantity& quantity, const std::string& where) {
  const auto value = read_count(trimmed(text), quantity);
  if (!value)
    throw UsageError(fmt::format("{} '{}': valid are {}", where, excerpt(text), valid_counts(quantity)));
  return *value;
}

Choice parse_choice(std::string_view text, const Quantity& quantity, const std::string& where) {
  if (trimmed(text) == "auto") return {Choice::Kind::every, {}};
  if (trimmed(text) == "max" && quantity.may_be_max) return {Choice::Kind::most, {}};
  const auto refuse = [&](std::string_view entry) {
    return UsageError(fmt::format(
        "{} '{}': '{}' is not valid; valid are {}, lists 1,2,4, ranges 1:64 (powers of two) and 4:64:4 (in "
        "steps), auto{}",
        where, excerpt(text), excerpt(entry), valid_counts(quantity), quantity.may_be_max ? ", max" : ""));
  };
  Choice choice{Choice::Kind::listed, {}};
  const auto add = [&](std::int64_t value) {
    if (std::ranges::find(choice.values, value) == choice.values.end()) choice.values.push_back(value);
  };
  for (const std::string& entry : split_list(text, where)) {
    const std::string_view view = entry;
    const auto colon = view.find(':');
    const auto first = read_count(view.substr(0, colon), quantity);
    if (!first) throw refuse(entry);
    if (colon == std::string_view::npos) {
      add(*first);
      continue;
    }
    const std::string_view rest = view.substr(colon + 1);
    const auto second_colon = rest.find(':');
    const auto last = read_count(rest.substr(0, second_colon), quantity);
    if (!last) throw refuse(entry);
    const std::size_t before = choice.values.size();
    if (second_colon != std::string_view::npos) {
      const auto step = read_count(rest.substr(second_colon + 1), quantity);
      constexpr std::int64_t most_values = 1 << 16;
      if (!step || *last < *first || (*last - *first) / *step >= most_values) throw refuse(entry);
      for (std::int64_t value = *first; value <= *last; value += *step) add(value);
      continue;
    }
    for (std::int64_t power = 1; power <= *last; power *= 2) {
      if (power >= *first) add(power);
    }
    if (choice.values.size() == before) {
      throw UsageError(fmt::format("{} '{}': no new power of two in the range '{}'", where, excerpt(text),
                                   excerpt(entry)));
    }
  }
  return choice;
}

double parse_real(std::string_view text, double smallest, double largest, const std::string& where) {
  const std::string_view digits = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || !std::isfinite(value) ||
      value < smallest || value > largest) {
    throw UsageError(
        fmt::format("{} '{}': valid are numbers from {} to {}", where, excerpt(text), smallest, largest));
  }
  return value;
}

}  // namespace helix
