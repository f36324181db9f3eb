#include "simt/global_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>

#include "simt/fault.hpp"

namespace helix::simt {
namespace {

std::map<const std::byte*, Allocation*, std::less<>>& allocations() {
  // Never destroyed: static objects hold device memory to the very end.
  static auto& map = *new std::map<const std::byte*, Allocation*, std::less<>>;
  return map;
}

/// The allocation that holds [p, p + size).
Allocation& allocation_of(const char* what, const void* p, std::size_t size, std::size_t alignment) {
  const auto* const at = static_cast<const std::byte*>(p);
  const auto fault = [&](const std::string& where) {
    throw Fault("global memory: a kernel " + std::string(what) + ' ' + std::to_string(size) + " bytes " +
                where);
  };
  const auto next = allocations().upper_bound(at);
  if (next == allocations().begin()) fault("below everything that is allocated");
  Allocation& a = *std::prev(next)->second;
  const auto offset = at - a.data();
  const auto where = [&] {
    return "at byte " + std::to_string(offset) + " of " + std::to_string(a.size()) + " of '" + a.name() + "'";
  };
  if (static_cast<std::size_t>(offset) + size > a.size()) fault("out of bounds, " + where());
  if (reinterpret_cast<std::uintptr_t>(p) % alignment != 0) fault("misaligned, " + where());
  return a;
}

}  // namespace

Allocation::Allocation(std::string name, std::size_t bytes)
    : name_(std::move(name)), bytes_(new std::byte[bytes + 1]), state_(bytes, unwritten) {
  std::memset(bytes_.get(), 0xff, bytes);
  allocations().emplace(bytes_.get(), this);
}

Allocation::~Allocation() {
  allocations().erase(bytes_.get());
}

bool Allocation::any(State state, std::size_t offset, std::size_t bytes) const {
  return std::memchr(state_.data() + offset, state, bytes) != nullptr;
}

void Allocation::check_read(std::size_t offset, std::size_t bytes) const {
  const auto fault = [&](const char* why) {
    throw Fault("global memory: a kernel reads byte " + std::to_string(offset) + " of '" + name_ + "', " +
                why);
  };
  if (any(forbidden, offset, bytes)) fault("which lies between its arrays");
  if (any(unwritten, offset, bytes)) fault("which nobody has written");
}

void Allocation::note_write(std::size_t offset, std::size_t bytes) {
  if (any(forbidden, offset, bytes))
    throw Fault("global memory: a kernel writes byte " + std::to_string(offset) + " of '" + name_ +
                "', which lies between its arrays");
  std::memset(state_.data() + offset, written, bytes);
}

void Allocation::forbid(std::size_t offset, std::size_t bytes) {
  std::memset(bytes_.get() + offset, 0xff, bytes);
  std::memset(state_.data() + offset, forbidden, bytes);
}

void Allocation::allow_all() {
  std::ranges::replace(state_, forbidden, written);
}

void Allocation::check_forbidden() const {
  for (std::size_t i = 0; i < state_.size(); ++i) {
    if (state_[i] == forbidden && bytes_[i] != std::byte{0xff})
      throw Fault("global memory: somebody wrote byte " + std::to_string(i) + " of '" + name_ +
                  "', which lies between its arrays");
  }
}

void check_global_read(const void* p, std::size_t size, std::size_t alignment) {
  const Allocation& a = allocation_of("reads", p, size, alignment);
  a.check_read(static_cast<std::size_t>(static_cast<const std::byte*>(p) - a.data()), size);
}

void note_global_write(void* p, std::size_t size, std::size_t alignment) {
  Allocation& a = allocation_of("writes", p, size, alignment);
  a.note_write(static_cast<std::size_t>(static_cast<const std::byte*>(p) - a.data()), size);
}

}  // namespace helix::simt
