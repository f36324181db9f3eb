// What this machine can do at most: the ceilings that kernels are held against. Both drift with clocks and
// neighbours, so measure them in the same minute as what is compared with them.
#pragma once

#include <cstddef>
#include <span>

#include "roofline/base/dtype.hpp"

namespace helix::cpu {

/// Best rate at which `threads` threads read the buffer (each its own part) over a few access patterns, in
/// about `seconds`. The buffer should be several times the last-level cache that the threads can get hold of.
double read_bandwidth_bytes_per_s(std::span<const std::byte> buffer, int threads, double seconds);

/// Best multiply-add rate (2 FLOP each) on operands of `dtype` in registers, with fp32 accumulation, by the
/// instruction that attention multiplies with under the instruction set cap (isa.hpp): bf16 AMX tiles, bf16
/// dot products or fp32 FMA. fp8 has no instructions of its own and is multiplied as bf16.
double matrix_peak_flops_per_s(DType dtype, int threads, double seconds);

/// The clock of the calling core, from some 20 microseconds of additions that wait for each other, a cycle
/// each: what the operating system tells of it is a constant on many virtual machines. 0 on other
/// architectures than x86-64 and Arm.
double core_clock_hz();

}  // namespace helix::cpu
