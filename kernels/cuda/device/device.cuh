// The vocabulary that the CUDA kernels are written in. nvcc compiles it to CUDA (device_gpu.cuh); g++
// compiles the same kernels against tests/simt, which runs them thread by thread and checks every access, so
// that they are tested on machines without a GPU. Everything is in namespace helix::cuda; a kernel uses
// threadIdx, blockIdx, blockDim and gridDim as usual, and otherwise only what is here:
//
//   template <...> HELIX_KERNEL HELIX_BOUNDS(threads, blocks_per_sm) void f(Global<const BF16> x, ...)
//   HELIX_DEVICE T g(...)                 a function called by kernels (constexpr functions need no mark)
//   HELIX_UNROLL for (...)                unrolled, so that arrays indexed by the loop stay in registers
//
//   launch(f<...>, Dim3 grid, Dim3 block, std::size_t shared_bytes, Stream stream, arguments...)
//       on the host; arguments convert to the kernel's parameters, a block has a multiple of 32 threads.
//
//   Vec<T, N>                             N values in one load or store of up to 16 bytes: v[i]
//   Global<T>(pointer), Shared<T>         checked pointers: p[i] reads and writes, p + i, p.template as<U>().
//                                         p[i] is a proxy in the emulation: name the type, `float x = p[i]`.
//   shared_memory<T>(byte_offset = 0)     the block's dynamic shared memory, 128-byte aligned
//   atomic_add(Global<T>, T)              T of float, int, unsigned, unsigned long long; the old value
//   fence()                               __threadfence
//
// Collectives, which all threads of the block or all 32 lanes of the warp must reach at the same place:
//   block_sync()   warp_sync()            order shared memory accesses of the block's or warp's threads
//   shuffle_xor(x, mask)  shuffle(x, lane)  shuffle_down(x, delta)       x of 4 bytes
//   ballot(p)  any(p)  all(p)             warp votes
//   Vec<unsigned, 4> ldmatrix_x4(Shared<T> row), ldmatrix_x4_trans(Shared<T> row)
//       four 8x8 matrices of 16-bit values: lane i gives the address of row i % 8 of matrix i / 8
//   unsigned movmatrix_trans(x)           transposes the 8x8 matrix of 16-bit values that the warp holds
//   mma_bf16(Vec<float, 4>& c, Vec<unsigned, 4> a, Vec<unsigned, 2> b)     mma.m16n8k16, c += a b
//   mma_f16(c, a, b)                      the same of f16
//
// Asynchronous copies; a thread sees its own after cp_async_wait, others after a barrier on top:
//   cp_async_16(Shared<T> to, Global<const T> from, int bytes = 16)
//       the rest of the 16 bytes becomes zero; nothing is read for bytes = 0
//   cp_async_commit()                     closes a group
//   cp_async_wait<N>()                    until at most the N youngest groups are in flight
//
// Numbers:
//   pack_bf16(lo, hi)                     two floats to bf16x2, lo in the low half
//   pack_f16(lo, hi)                      the same to f16x2
//   e4m3_to_f16(pair)                     the low two bytes of e4m3 as f16x2, exactly
//   fma_bf16x2(a, b, c)                   a * b + c on both halves, rounded once
//   byte_permute(a, b, selector)          byte i is byte selector >> 4 i & 7 of the eight of a (0 to 3) and b
//   exp2_fast(x)                          2^x to about 2 ulp, exp2_fast(-inf) = 0
#pragma once

#ifdef __CUDACC__
#include "kernels/cuda/device/device_gpu.cuh"
#else
#include "simt/device.hpp"
#endif

namespace helix::cuda {

inline constexpr int kWarp = 32;

HELIX_DEVICE int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
HELIX_DEVICE int warp_index() {
  return static_cast<int>(threadIdx.x) / kWarp;
}

HELIX_DEVICE float warp_sum(float x) {
  HELIX_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}
HELIX_DEVICE float warp_max(float x) {
  HELIX_UNROLL
  for (int mask = kWarp / 2; mask > 0; mask /= 2) x = fmaxf(x, shuffle_xor(x, mask));
  return x;
}

}  // namespace helix::cuda
