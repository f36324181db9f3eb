// The communicators of a rank that runs without the others of its sharding: in their place stands what it has itself.
#pragma once

#include <string>

#include "kernels/comm/communicator.hpp"
#include "kernels/ops/device.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

/// Why rank 0 of such a sharding cannot run alone; empty if it can.
std::string why_not_alone(const Sharding& sharding);
/// The groups of rank 0, which is alone. The device must outlive them.
Groups lone_groups(Device& device, const Sharding& sharding);

}  // namespace helix
