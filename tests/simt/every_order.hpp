// Runs a test in several orders of blocks, warps and lanes; sanitized, which is slow, in one.
#pragma once

#include <catch2/catch.hpp>
#include <vector>

#include "simt/grid.hpp"

namespace helix::simt {

template <typename Body>
void in_every_order(const Body& body) {
#ifdef __SANITIZE_ADDRESS__
  const std::vector<Schedule> orders = {{Order::shuffled, 1}};
#else
  const std::vector<Schedule> orders = {
      {Order::forward}, {Order::reverse}, {Order::shuffled, 1}, {Order::shuffled, 2}};
#endif
  for (const Schedule& s : orders) {
    INFO("order " << static_cast<int>(s.order) << ", seed " << s.seed);
    schedule() = s;
    body();
  }
  schedule() = {};
}

}  // namespace helix::simt
