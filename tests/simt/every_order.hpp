// Runs a test in several orders of blocks, warps and lanes.
#pragma once

#include <catch2/catch.hpp>

#include "simt/grid.hpp"

namespace helix::simt {

template <typename Body>
void in_every_order(const Body& body) {
  for (const Schedule& s : {Schedule{Order::forward}, Schedule{Order::reverse}, Schedule{Order::shuffled, 1},
                            Schedule{Order::shuffled, 2}}) {
    INFO("order " << static_cast<int>(s.order) << ", seed " << s.seed);
    schedule() = s;
    body();
  }
  schedule() = {};
}

}  // namespace helix::simt
