// What CUDA's stream capture does: while it goes on, operations are noted instead of done.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace helix::simt {

using Operations = std::vector<std::function<void()>>;

/// Where operations are noted; null: they are done.
inline Operations* capture = nullptr;

inline void issue(std::function<void()> operation) {
  if (capture == nullptr) {
    operation();
  } else {
    capture->push_back(std::move(operation));
  }
}

}  // namespace helix::simt
