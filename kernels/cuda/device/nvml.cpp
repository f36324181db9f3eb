#include "kernels/cuda/device/nvml.hpp"

#include <dlfcn.h>
#include <fmt/ranges.h>

#include <array>
#include <optional>

namespace helix::cuda {
namespace {

// NVML's interface as far as it is used here (NVML API reference, "Device Queries"): stable since CUDA 7.
using Device = struct NvmlDevice*;
constexpr int success = 0;
enum Clock : int { graphics = 0, sm = 1, memory = 2 };

class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL)) {
    const auto init = find<int()>("nvmlInit_v2");
    if (init == nullptr || init() != success) return;
    ready_ = true;
  }
  bool ready() const { return ready_; }

  template <class Signature>
  Signature* find(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Signature*>(dlsym(library_, name));
  }

 private:
  void* library_;  // for the life of the program
  bool ready_ = false;
};

const Nvml& nvml() {
  static const Nvml library;
  return library;
}

struct ThrottleReason {
  unsigned long long bit;
  const char* name;
};
constexpr std::array throttle_reasons = {ThrottleReason{0x1, "idle"},
                                         ThrottleReason{0x2, "application clocks"},
                                         ThrottleReason{0x4, "software power cap"},
                                         ThrottleReason{0x8, "hardware slowdown"},
                                         ThrottleReason{0x10, "sync boost"},
                                         ThrottleReason{0x20, "software thermal slowdown"},
                                         ThrottleReason{0x40, "hardware thermal slowdown"},
                                         ThrottleReason{0x80, "hardware power brake"},
                                         ThrottleReason{0x100, "display clocks"}};

/// The GPU of this address; null without NVML.
Device find_gpu(const std::string& pci_id) {
  Device device = nullptr;
  if (!nvml().ready()) return nullptr;
  const auto by_pci_id = nvml().find<int(const char*, Device*)>("nvmlDeviceGetHandleByPciBusId_v2");
  if (by_pci_id == nullptr || by_pci_id(pci_id.c_str(), &device) != success) return nullptr;
  return device;
}

/// What holds it back; nothing where the GPU does not say.
std::optional<std::vector<std::string>> throttles_of(Device device) {
  unsigned long long reasons = 0;
  const auto query =
      nvml().find<int(Device, unsigned long long*)>("nvmlDeviceGetCurrentClocksThrottleReasons");
  if (query == nullptr || query(device, &reasons) != success) return std::nullopt;
  std::vector<std::string> names;
  for (const ThrottleReason& reason : throttle_reasons) {
    if ((reasons & reason.bit) != 0) names.emplace_back(reason.name);
  }
  return names;
}

std::optional<unsigned> clock_mhz(Device device, const char* function, Clock type) {
  unsigned mhz = 0;
  const auto query = nvml().find<int(Device, int, unsigned*)>(function);
  if (query == nullptr || query(device, type, &mhz) != success) return std::nullopt;
  return mhz;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> gpu_conditions(const std::string& pci_id) {
  std::vector<std::pair<std::string, std::string>> found;
  const Device device = find_gpu(pci_id);
  if (device == nullptr) return found;

  std::array<char, 96> driver{};
  const auto driver_version = nvml().find<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  if (driver_version != nullptr && driver_version(driver.data(), driver.size()) == success) {
    found.emplace_back("driver", driver.data());
  }
  const auto clock = [&](const char* function, Clock type, const char* name) {
    if (const auto mhz = clock_mhz(device, function, type)) found.emplace_back(name, std::to_string(*mhz));
  };
  clock("nvmlDeviceGetClockInfo", sm, "sm_clock_mhz");
  clock("nvmlDeviceGetMaxClockInfo", sm, "sm_clock_max_mhz");
  clock("nvmlDeviceGetClockInfo", memory, "memory_clock_mhz");
  clock("nvmlDeviceGetMaxClockInfo", memory, "memory_clock_max_mhz");
  const auto number = [&](const char* function, const char* name, double unit) {
    unsigned value = 0;
    const auto query = nvml().find<int(Device, unsigned*)>(function);
    if (query != nullptr && query(device, &value) == success)
      found.emplace_back(name, fmt::format("{:g}", value * unit));
  };
  number("nvmlDeviceGetPowerUsage", "power_w", 1e-3);
  number("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w", 1e-3);
  if (const auto throttles = throttles_of(device)) {
    found.emplace_back("throttle_reasons",
                       throttles->empty() ? "none" : fmt::format("{}", fmt::join(*throttles, ", ")));
  }
  return found;
}

DeviceSpeed gpu_speed(const std::string& pci_id) {
  const Device device = find_gpu(pci_id);
  if (device == nullptr) return {};
  return {.clock_mhz = static_cast<double>(clock_mhz(device, "nvmlDeviceGetClockInfo", sm).value_or(0)),
          .throttles = throttles_of(device).value_or(std::vector<std::string>{})};
}

std::optional<double> gpu_energy_joules(const std::string& pci_id) {
  const Device device = find_gpu(pci_id);
  const auto query =
      nvml().find<int(Device, unsigned long long*)>("nvmlDeviceGetTotalEnergyConsumption");  // millijoules
  unsigned long long millijoules = 0;
  if (device == nullptr || query == nullptr || query(device, &millijoules) != success) return std::nullopt;
  return static_cast<double>(millijoules) * 1e-3;
}

}  // namespace helix::cuda
