// What somebody meant who mistyped a name.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace helix {

/// The candidate that is a typo or two away from `word` (case does not count), empty if none is that near.
std::string nearest_spelling(std::string_view word, std::span<const std::string> candidates);

/// "; did you mean 'deepseek-r1'?", or nothing.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace helix
