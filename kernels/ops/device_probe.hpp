// What a rank's device can do and how it does at the moment.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "roofline/base/dtype.hpp"

namespace helix {

/// How fast a device runs at the moment.
struct DeviceSpeed {
  double clock_mhz = 0;                // 0: the device does not say
  std::vector<std::string> throttles;  // what holds it back
};

class DeviceProbe {
 public:
  virtual ~DeviceProbe() = default;

  /// The best that this rank's share of the device does now, measured for about `seconds`: reading `memory`,
  /// which should be several times the caches, and multiplying matrices of this type.
  virtual double read_bandwidth_bytes_per_s(std::span<const std::byte> memory, double seconds) = 0;
  virtual double matrix_peak_flops_per_s(DType dtype, double seconds) = 0;
  /// The clock that the calling core runs at now; 0 where that cannot be measured.
  virtual double core_clock_hz() const { return 0; }
  /// Bytes of the device's last-level cache; 0: the host's.
  virtual std::size_t cache_bytes() const { return 0; }
  /// What the device's speed depends on, as (name, value): clocks, power, throttling. Empty:
  /// the host's alone.
  virtual std::vector<std::pair<std::string, std::string>> conditions() const { return {}; }
  /// The part of it that changes from moment to moment.
  virtual DeviceSpeed speed() const { return {}; }
  /// What the device has used since some moment; nothing: it does not count that.
  virtual std::optional<double> energy_joules() const { return {}; }
};

}  // namespace helix
