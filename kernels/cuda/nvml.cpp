#include "kernels/cuda/nvml.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>

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

std::string names_of(unsigned long long reasons) {
  std::string text;
  for (const ThrottleReason& reason : throttle_reasons) {
    if ((reasons & reason.bit) == 0) continue;
    text += (text.empty() ? "" : ", ") + std::string(reason.name);
  }
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> gpu_conditions(const std::string& pci_id) {
  std::vector<std::pair<std::string, std::string>> found;
  if (!nvml().ready()) return found;
  Device device = nullptr;
  const auto by_pci_id = nvml().find<int(const char*, Device*)>("nvmlDeviceGetHandleByPciBusId_v2");
  if (by_pci_id == nullptr || by_pci_id(pci_id.c_str(), &device) != success) return found;

  std::array<char, 96> driver{};
  const auto driver_version = nvml().find<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  if (driver_version != nullptr && driver_version(driver.data(), driver.size()) == success) {
    found.emplace_back("driver", driver.data());
  }
  const auto clock = [&](const char* function, Clock type, const char* name) {
    unsigned mhz = 0;
    const auto query = nvml().find<int(Device, int, unsigned*)>(function);
    if (query != nullptr && query(device, type, &mhz) == success)
      found.emplace_back(name, std::to_string(mhz));
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
  unsigned long long reasons = 0;
  const auto throttle =
      nvml().find<int(Device, unsigned long long*)>("nvmlDeviceGetCurrentClocksThrottleReasons");
  if (throttle != nullptr && throttle(device, &reasons) == success) {
    found.emplace_back("throttle_reasons", names_of(reasons));
  }
  return found;
}

}  // namespace helix::cuda
