#include "sweeps/results/status.hpp"

#include <fmt/format.h>

#include <array>
#include <cstddef>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {
namespace {

constexpr std::array<std::string_view, 5> names{"ok", "skipped", "failed", "wrong", "one rank"};

}  // namespace

std::string_view name(Status status) {
  return names[static_cast<std::size_t>(status)];
}

Status parse_status(std::string_view text) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (text == names[i]) return static_cast<Status>(i);
  }
  throw UsageError(fmt::format("unknown word '{}'", excerpt(text)));
}

}  // namespace helix
