// What the emulation reports of a kernel: thrown by launch().
#pragma once

#include <stdexcept>

namespace helix::simt {

struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace helix::simt
