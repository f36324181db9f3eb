#pragma once

#include <string>
#include <string_view>

namespace helix {

/// A bad value as a message shows it: on one line, and at most 200 characters of it.
inline std::string excerpt(std::string_view value) {
  constexpr std::size_t longest = 200;
  std::string shown(value.substr(0, longest));
  for (char& c : shown) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = ' ';
  }
  if (value.size() <= longest) return shown;
  // A character of several bytes is shown whole or not at all.
  std::size_t cut = longest;
  while (cut > longest - 4 && (static_cast<unsigned char>(value[cut]) & 0xc0) == 0x80) --cut;
  return shown.substr(0, cut) + "...";
}

}  // namespace helix
