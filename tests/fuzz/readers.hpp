// Everything that reads text a user can hand to the program, behind one signature: what the fuzzer feeds and
// what the tests feed with what it found. A reader accepts or throws UsageError; anything else is a bug.
#pragma once

#include <span>
#include <string_view>

namespace helix {

struct Reader {
  std::string_view name;  // and of its folder in corpus/
  void (*read)(std::string_view text);
};

std::span<const Reader> readers();

}  // namespace helix
