// Conversions that the GPU cost formulas share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "roofline/cost/trust.hpp"
#include "roofline/system/gpu_kernels.hpp"
#include "roofline/system/system_spec.hpp"

namespace helix {

constexpr double us_per_second = 1e6;

inline double whole(double a, double b) {
  return std::ceil(a / b);
}

/// Time of a stream from DRAM at this share of the data sheet's bandwidth.
inline double dram_us(const SystemSpec& system, double efficiency, double bytes) {
  return bytes / (efficiency * system.dram.datasheet_bytes_per_s) * us_per_second;
}

/// What the engine that the system is to run under adds to its kernels; nothing for Engine::none or for an
/// engine of which the system file knows nothing.
inline const GpuEngine& engine_overhead(const SystemSpec& system) {
  static const GpuEngine none;
  for (const GpuEngine& e : system.gpu->engines) {
    if (e.engine == system.engine) return e;
  }
  return none;
}

/// Fixed time of so many kernels of a CUDA graph.
inline double kernels_us(const SystemSpec& system, double kernels) {
  return kernels * (system.gpu->common.kernel_us + engine_overhead(system).kernel_us);
}

/// A limit of 0 is not known.
inline bool beyond(double limit, std::int64_t value) {
  return limit > 0 && static_cast<double>(value) > limit;
}

/// None of an engine's constants are known where the system file does not name it.
inline bool engine_carried_over(const SystemSpec& system) {
  const GpuEngine& engine = engine_overhead(system);
  return engine.carried_over || engine.engine == Engine::none;
}

/// Nine of ten kernels of this family were within the error, on the system that they were measured on.
inline Trust fitted_within(const SystemSpec& system, double error_percent) {
  return {.error_percent = error_percent,
          .extrapolated = {.system = system.name != system.gpu->fitted.system}};
}

}  // namespace helix
