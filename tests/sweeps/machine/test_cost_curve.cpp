#include <array>
#include <catch2/catch.hpp>
#include <cmath>

#include "sweeps/machine/cost_curve.hpp"

using namespace helix;

namespace {

double time_us(const KernelRate& r, double bytes, double flops) {
  return r.fixed_us +
         1e6 * std::pow(std::pow(bytes / r.bytes_per_s, r.norm) + std::pow(flops / r.flops_per_s, r.norm),
                        1 / r.norm);
}

}  // namespace

TEST_CASE("the curve goes through timings that lie on such a curve") {
  for (const double norm : {1.0, 2.0, 4.0, 16.0}) {
    const KernelRate truth{.fixed_us = 3, .bytes_per_s = 16e9, .flops_per_s = 700e9, .norm = norm};
    std::vector<Probe> probes;
    for (const double m : {1e-3, 10.0, 40.0, 80.0, 1e5})
      probes.push_back({.bytes = 16e6, .flops = m * 16e6, .us = time_us(truth, 16e6, m * 16e6)});
    const KernelRate found = fit(KernelFamily::gemm, DType::fp8, 3, probes);
    CHECK(found.dtype == DType::fp8);
    CHECK(found.norm == norm);
    CHECK(found.bytes_per_s == Approx(truth.bytes_per_s).epsilon(1e-3));
    CHECK(found.flops_per_s == Approx(truth.flops_per_s).epsilon(1e-3));
  }
}

TEST_CASE("a single probe is met exactly, and so are probes that are all bound by memory on average") {
  const std::array single{Probe{.bytes = 8e6, .flops = 3e6, .us = 1000}};
  const KernelRate one = fit(KernelFamily::gqa_attention, DType::bf16, 10, single);
  CHECK(time_us(one, 8e6, 3e6) == Approx(1000));
  CHECK(one.fixed_us == 10);
  // Half the work takes half the time beyond what is fixed.
  CHECK(time_us(one, 4e6, 1.5e6) == Approx(505));

  // Arithmetic did not show: the curve is as much too low for one as too high for the other.
  const std::array memory_bound{Probe{.bytes = 8e6, .flops = 1e6, .us = 1000},
                                Probe{.bytes = 8e6, .flops = 8e6, .us = 1000}};
  const KernelRate both = fit(KernelFamily::moe, DType::bf16, 0, memory_bound);
  CHECK(both.norm == 16);
  CHECK(time_us(both, 8e6, 8e6) / 1000 == Approx(1000 / time_us(both, 8e6, 1e6)));
  CHECK(time_us(both, 8e6, 8e6) == Approx(1000).epsilon(0.03));
}

TEST_CASE("timing noise of a few per cent moves the curve's rates by no more than itself") {
  const KernelRate truth{.bytes_per_s = 16e9, .flops_per_s = 700e9, .norm = 4};
  for (int noisy = 0; noisy < 4; ++noisy) {
    std::vector<Probe> probes;
    for (const double m : {1.0, 8.0, 40.0, 160.0}) {
      const double noise = static_cast<int>(probes.size()) == noisy ? 1.04 : 1.0;
      probes.push_back({.bytes = 16e6, .flops = m * 16e6, .us = noise * time_us(truth, 16e6, m * 16e6)});
    }
    const KernelRate found = fit(KernelFamily::gemm, DType::bf16, 0, probes);
    CAPTURE(noisy);
    CHECK(found.norm == 4);
    CHECK(found.bytes_per_s == Approx(truth.bytes_per_s).epsilon(0.045));
    CHECK(found.flops_per_s == Approx(truth.flops_per_s).epsilon(0.045));
  }
}
