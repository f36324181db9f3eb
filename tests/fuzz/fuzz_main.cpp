// libFuzzer's entry: one program for each reader, named by HELIX_FUZZED.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fuzz/readers.hpp"
#include "roofline/base/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const helix::Reader& reader =
      *std::ranges::find(helix::readers(), HELIX_FUZZED, &helix::Reader::name);
  try {
    reader.read({reinterpret_cast<const char*>(data), size});
  } catch (const helix::UsageError&) {
  }
  return 0;
}
