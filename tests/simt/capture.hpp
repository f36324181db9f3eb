// What CUDA's stream capture does: while it goes on, operations are noted instead of done.
#pragma once

#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "simt/fault.hpp"

namespace helix::simt {

using Operations = std::vector<std::function<void()>>;

/// Where operations are noted; null: they are done.
inline Operations* capture = nullptr;

/// The first use of a kernel may load its code, which a capture does not allow.
inline void note_use(const void* kernel) {
  static std::set<const void*> used;
  if (capture == nullptr) {
    used.insert(kernel);
  } else if (!used.contains(kernel)) {
    throw Fault("a kernel is launched in a capture that has never run before");
  }
}

inline void issue(std::function<void()> operation) {
  if (capture == nullptr) {
    operation();
  } else {
    capture->push_back(std::move(operation));
  }
}

}  // namespace helix::simt
