// Parts of what is counted from 0.
#pragma once

#include <algorithm>
#include <cstdint>

namespace helix {

struct Range {
  std::int64_t begin = 0, end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// Where each of what is counted has `factor` parts, those of a range.
constexpr Range scaled(Range range, std::int64_t factor) {
  return {range.begin * factor, range.end * factor};
}

/// Part `index` of [0, n) cut into `parts`; sizes differ by at most one and low parts hold the extra.
constexpr Range even_split(std::int64_t n, int parts, int index) {
  const std::int64_t least = n / parts, extra = n % parts;
  const auto begin_of = [&](std::int64_t i) { return i * least + std::min(i, extra); };
  return {begin_of(index), begin_of(std::int64_t{index} + 1)};
}

}  // namespace helix
