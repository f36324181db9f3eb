// The program's operator new: the standard's, but that a refusal leaves behind how much was wanted.
#include <cstdlib>
#include <new>

#include "sweeps/launch/activity.hpp"

// AddressSanitizer has its own, and holds new against delete.
#if !defined(__SANITIZE_ADDRESS__)

void* operator new(std::size_t bytes) {
  if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  helix::refused_bytes = bytes;
  throw std::bad_alloc();
}

void operator delete(void* memory) noexcept {
  std::free(memory);
}

void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

#endif
