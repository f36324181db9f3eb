// device.cuh as CUDA. Instruction names are those of the PTX ISA manual.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/cuda/device/stream.hpp"

#define HELIX_KERNEL __global__
#define HELIX_BOUNDS(threads, blocks_per_sm) __launch_bounds__(threads, blocks_per_sm)
#define HELIX_DEVICE __device__ __forceinline__
#define HELIX_UNROLL _Pragma("unroll")

namespace helix::cuda {

using Dim3 = dim3;

template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
  constexpr T& operator[](int i) { return v[i]; }
  constexpr const T& operator[](int i) const { return v[i]; }
};

template <typename T>
class Global {
 public:
  __host__ __device__ __forceinline__ Global(T* p = nullptr) : p_(p) {}
  template <typename U>
  requires std::is_same_v<const U, T> __host__ __device__ __forceinline__ Global(Global<U> p) : p_(p.get()) {}
  HELIX_DEVICE T& operator[](std::int64_t i) const { return p_[i]; }
  HELIX_DEVICE Global operator+(std::int64_t i) const { return {p_ + i}; }
  template <typename U>
  HELIX_DEVICE Global<U> as() const {
    return {reinterpret_cast<U*>(p_)};
  }
  __host__ __device__ __forceinline__ T* get() const { return p_; }

 private:
  T* p_;
};

template <typename T>
class Shared {
 public:
  HELIX_DEVICE explicit Shared(T* p) : p_(p) {}
  template <typename U>
  requires std::is_same_v<const U, T> HELIX_DEVICE Shared(Shared<U> p) : p_(p.get()) {}
  HELIX_DEVICE T& operator[](int i) const { return p_[i]; }
  HELIX_DEVICE Shared operator+(int i) const { return Shared(p_ + i); }
  template <typename U>
  HELIX_DEVICE Shared<U> as() const {
    return Shared<U>(reinterpret_cast<U*>(p_));
  }
  HELIX_DEVICE T* get() const { return p_; }
  HELIX_DEVICE unsigned address() const { return static_cast<unsigned>(__cvta_generic_to_shared(p_)); }

 private:
  T* p_;
};

template <typename T>
HELIX_DEVICE Shared<T> shared_memory(int byte_offset = 0) {
  extern __shared__ __align__(128) unsigned char helix_shared_memory[];
  return Shared<T>(reinterpret_cast<T*>(helix_shared_memory + byte_offset));
}

template <typename T>
HELIX_DEVICE T atomic_add(Global<T> to, T x) {
  return atomicAdd(to.get(), x);
}
HELIX_DEVICE void fence() {
  __threadfence();
}

HELIX_DEVICE void block_sync() {
  __syncthreads();
}
HELIX_DEVICE void warp_sync() {
  __syncwarp();
}
template <typename T>
HELIX_DEVICE T shuffle_xor(T x, int mask) {
  return __shfl_xor_sync(0xffffffffu, x, mask);
}
template <typename T>
HELIX_DEVICE T shuffle(T x, int lane) {
  return __shfl_sync(0xffffffffu, x, lane);
}
template <typename T>
HELIX_DEVICE T shuffle_down(T x, int delta) {
  return __shfl_down_sync(0xffffffffu, x, static_cast<unsigned>(delta));
}
HELIX_DEVICE unsigned ballot(bool p) {
  return __ballot_sync(0xffffffffu, p);
}
HELIX_DEVICE bool any(bool p) {
  return __any_sync(0xffffffffu, p);
}
HELIX_DEVICE bool all(bool p) {
  return __all_sync(0xffffffffu, p);
}

template <typename T>
HELIX_DEVICE Vec<unsigned, 4> ldmatrix_x4(Shared<T> row) {
  Vec<unsigned, 4> r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row.address())
               : "memory");
  return r;
}
template <typename T>
HELIX_DEVICE Vec<unsigned, 4> ldmatrix_x4_trans(Shared<T> row) {
  Vec<unsigned, 4> r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row.address())
               : "memory");
  return r;
}
HELIX_DEVICE unsigned movmatrix_trans(unsigned x) {
  unsigned r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x));
  return r;
}
HELIX_DEVICE void mma_bf16(Vec<float, 4>& c, const Vec<unsigned, 4>& a, const Vec<unsigned, 2>& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

HELIX_DEVICE void mma_f16(Vec<float, 4>& c, const Vec<unsigned, 4>& a, const Vec<unsigned, 2>& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <typename T, typename U>
HELIX_DEVICE void cp_async_16(Shared<T> to, Global<U> from, int bytes = 16) {
  static_assert(std::is_same_v<std::remove_const_t<U>, T>);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.address()), "l"(from.get()),
               "r"(bytes)
               : "memory");
}
HELIX_DEVICE void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N>
HELIX_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

HELIX_DEVICE unsigned pack_bf16(float lo, float hi) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
HELIX_DEVICE unsigned pack_f16(float lo, float hi) {
  unsigned r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
HELIX_DEVICE unsigned e4m3_to_f16(unsigned pair) {
  unsigned r;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  // Without an instruction for it: with the fields in place the number is too small by the difference of the exponents'
  // biases, 2^(15 - 7); what comes to more than 448 was a NaN.
  constexpr unsigned factor = 0x5c005c00u, largest = 0x5f005f00u;  // 256 and 448
  const unsigned magnitude = (pair & 0x7fu) << 7 | (pair & 0x7f00u) << 15;
  unsigned nan;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(magnitude), "r"(factor));
  asm("set.gt.u32.f16x2 %0, %1, %2;" : "=r"(nan) : "r"(r), "r"(largest));
  r |= nan & 0x7fff7fffu;
  return r | (pair & 0x80u) << 8 | (pair & 0x8000u) << 16;
#else
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(static_cast<unsigned short>(pair)));
  return r;
#endif
}
HELIX_DEVICE unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) {
  unsigned r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
HELIX_DEVICE unsigned byte_permute(unsigned a, unsigned b, unsigned selector) {
  return __byte_perm(a, b, selector);
}
HELIX_DEVICE float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

/// Throws with what was tried and CUDA's reason.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), Dim3 grid, Dim3 block, std::size_t shared_bytes, Stream stream,
            Arguments&&... arguments) {
  constexpr std::size_t without_opt_in = 48 * 1024;
  if (shared_bytes > without_opt_in) {
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "shared memory of a kernel");
    // Else the driver may leave the multiprocessor room for fewer blocks than would fit.
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared),
               "shared memory of a kernel");
  }
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  check_cuda(cudaGetLastError(), "kernel launch");
}

}  // namespace helix::cuda
