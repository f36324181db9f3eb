#include "kernels/cpu/machine/isa.hpp"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstdlib>

#include "roofline/base/error.hpp"

#if HWY_ARCH_X86_64 && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace helix {
namespace {

constexpr Isa all_isas[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx};

#if HWY_ARCH_X86_64 && defined(__linux__)
// Linux gives the 8 KiB of tile data only to processes that ask (Documentation/arch/x86/xstate.rst).
bool request_tile_data() {
  constexpr long arch_req_xcomp_perm = 0x1023;
  constexpr long xfeature_xtiledata = 18;
  return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
}
#endif

Isa detect_hardware() {
#if HWY_ARCH_X86_64
  if ((hwy::SupportedTargets() & HWY_AVX2) == 0) return Isa::portable;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16") &&
                      __builtin_cpu_supports("gfni");
  if (!avx512) return Isa::avx2;
#if defined(__linux__)
  if (__builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") && request_tile_data())
    return Isa::amx;
#endif
  return Isa::avx512_bf16;
#else
  return Isa::portable;
#endif
}

Isa hardware() {
  static const Isa isa = detect_hardware();
  return isa;
}

Isa cap_from_environment() {
  const char* text = std::getenv("HELIX_ISA");
  if (text == nullptr || *text == '\0') return Isa::amx;
  for (Isa isa : all_isas)
    if (text == name(isa)) return isa;
  throw UsageError("HELIX_ISA=" + std::string(text) +
                   " is unknown: valid are portable, avx2, avx512, avx512_bf16, amx");
}

// Highway keeps its own choice of target; it must not go past the cap.
Isa apply(Isa cap) {
  Isa isa = std::min(cap, hardware());
#if HWY_ARCH_X86_64
  if (isa == Isa::avx512_bf16 && cap != isa && __builtin_cpu_is("intel")) isa = Isa::avx512;
#endif
#if HWY_ARCH_X86_64
  // A lower bit is a better target.
  constexpr auto better_than = [](std::int64_t target) { return target - 1; };
  hwy::DisableTargets(isa == Isa::portable ? better_than(HWY_SSE4)
                      : isa == Isa::avx2   ? better_than(HWY_AVX2)
                                           : 0);
#endif
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  return isa;
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa = apply(cap_from_environment());
  return isa;
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx:
      return "amx";
  }
  return "unknown";
}

Isa best_isa() {
  return current().load(std::memory_order_relaxed);
}

void set_isa_cap(Isa cap) {
  auto& isa = current();
  isa = apply(cap);
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (Isa isa : all_isas)
    if (isa <= hardware()) isas.push_back(isa);
  return isas;
}

std::string highway_target_name() {
  best_isa();
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  std::string text = hwy::TargetName(targets & -targets);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

}  // namespace helix
