// Errors that a user can mend: unusable arguments or files. The program ends with exit code 2 and one line.
#pragma once

#include <stdexcept>

namespace helix {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace helix
