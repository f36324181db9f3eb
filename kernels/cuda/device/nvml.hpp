// Clocks, power and throttling of a GPU from NVML, the driver's management library, loaded only if
// it is there.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/ops/device_probe.hpp"

namespace helix::cuda {

/// (name with unit, value) pairs of the GPU now; empty without NVML.
std::vector<std::pair<std::string, std::string>> gpu_conditions(const std::string& pci_id);
/// Its SM clock and what holds it back, now; nothing without NVML.
DeviceSpeed gpu_speed(const std::string& pci_id);
/// What it has used since its driver was loaded; nothing without NVML or on a GPU that does not count it.
std::optional<double> gpu_energy_joules(const std::string& pci_id);

}  // namespace helix::cuda
