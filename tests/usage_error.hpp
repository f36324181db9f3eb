// What is refused, and with which words.
#pragma once

#include <string>

#include "roofline/base/error.hpp"

namespace helix {

/// The text of the UsageError that `call` ends with; empty if it does not.
template <class Call>
std::string usage_error(const Call& call) {
  try {
    call();
  } catch (const UsageError& error) {
    return error.what();
  }
  return {};
}

}  // namespace helix
