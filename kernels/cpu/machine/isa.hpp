// Which instruction set the CPU kernels run on, decided at run time.
//
// A kernel with hand-written paths switches on best_isa(): `amx` and those of AVX-512 are code of its own
// (function target attributes), `avx2` and `portable` go through Google Highway's HWY_DYNAMIC_DISPATCH,
// which follows the same cap. On other architectures than x86-64 everything is `portable`: Highway's best
// target (NEON, SVE ...).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace helix {

/// avx512: with VBMI, GFNI and conversions to bf16. avx512_bf16: attention by bf16 dot products (vdpbf16ps),
/// too. amx: also bf16 tiles. Each includes those before it.
enum class Isa { portable, avx2, avx512, avx512_bf16, amx };

std::string_view name(Isa isa);

/// The best that the CPU, the operating system and the cap allow; Intel's dot products, at half the rate of
/// fp32 multiply-adds, only where the cap is `avx512_bf16` itself. The cap starts as the environment variable
/// HELIX_ISA=portable|avx2|avx512|avx512_bf16|amx (throws UsageError if it holds anything else) or, unset,
/// `amx`. Finding `amx` asks the kernel for the tile state, once per process; a thread still loads its own
/// tile configuration.
Isa best_isa();

/// Replaces the cap, so that tests can run every path in one process. Not while kernels run.
void set_isa_cap(Isa cap);

/// Every Isa that best_isa() can return here, worst first, whatever the cap.
std::vector<Isa> available_isas();

/// What Highway dispatches to under the cap: "avx2", "neon" ...
std::string highway_target_name();

}  // namespace helix
