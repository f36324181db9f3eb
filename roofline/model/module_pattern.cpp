#include "roofline/model/module_pattern.hpp"

#include <algorithm>

namespace helix {
namespace {

/// Whether `text` is all of what `pattern` stands for, `*` being any characters: linear in what is matched,
/// as only the last star is tried again.
bool matches_wildcards(std::string_view pattern, std::string_view text) {
  std::size_t p = 0, t = 0, star = pattern.npos, resumed = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resumed = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++resumed;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

/// Whether components of the dotted name `module` are `part`.
bool has_components(std::string_view module, std::string_view part) {
  for (std::size_t at = module.find(part); at != module.npos; at = module.find(part, at + 1)) {
    const std::size_t end = at + part.size();
    if ((at == 0 || module[at - 1] == '.') && (end == module.size() || module[end] == '.')) return true;
  }
  return false;
}

}  // namespace

void ModulePatterns::add(std::string entry) {
  constexpr std::string_view wrapper = "language_model.", expression = "re:";
  constexpr std::size_t longest = 256;
  if (const std::size_t at = entry.find(wrapper); at != entry.npos) entry.erase(at, wrapper.size());
  if (entry.empty()) return;
  if (entry.starts_with(expression)) {
    // Somebody else's expression: a length, no counted repeats and a matcher without backtracking (an
    // extension of libstdc++) bound its time.
    if (entry.size() > longest || entry.find('{') != entry.npos)
      throw std::regex_error(std::regex_constants::error_complexity);
    expressions_.emplace_back(entry.substr(expression.size()),
                              std::regex::ECMAScript | std::regex_constants::__polynomial);
  } else if (entry.find('*') != entry.npos) {
    wildcards_.push_back(entry);
    wildcards_.push_back("*." + entry);
    wildcards_.push_back(entry + ".*");
    wildcards_.push_back("*." + entry + ".*");
  } else {
    names_.push_back(entry);
  }
}

bool ModulePatterns::match(const std::string& module) const {
  const auto begins = std::regex_constants::match_continuous;
  return std::ranges::any_of(names_, [&](const auto& name) { return has_components(module, name); }) ||
         std::ranges::any_of(wildcards_, [&](const auto& w) { return matches_wildcards(w, module); }) ||
         std::ranges::any_of(expressions_,
                             [&](const auto& e) { return std::regex_search(module, e, begins); });
}

}  // namespace helix
