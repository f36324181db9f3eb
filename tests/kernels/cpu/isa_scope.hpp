// Choosing the instruction set of the CPU's kernels.
#pragma once

#include <catch2/catch.hpp>

#include "kernels/cpu/machine/isa.hpp"

namespace helix::testing {

/// Runs the rest of the scope with at most this instruction set.
class IsaScope {
 public:
  explicit IsaScope(Isa isa) { set_isa_cap(isa); }
  ~IsaScope() { set_isa_cap(Isa::amx); }
  IsaScope(const IsaScope&) = delete;
  IsaScope& operator=(const IsaScope&) = delete;
};

template <typename Body>
void on_every_isa(const Body& body) {
  for (const Isa isa : available_isas()) {
    const IsaScope scope(isa);
    INFO(name(isa));
    body();
  }
}

}  // namespace helix::testing
