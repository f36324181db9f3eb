#include "bench/micro/cold_buffer.hpp"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "kernels/cpu/stream.hpp"

namespace helix {

std::span<std::byte> cold_buffer() {
  static const std::span<std::byte> buffer = [] {
    constexpr std::size_t bytes = std::size_t{3} << 29;
    void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    madvise(p, bytes, MADV_HUGEPAGE);
    std::memset(p, 1, bytes);
    return std::span(static_cast<std::byte*>(p), bytes);
  }();
  return buffer;
}

double bandwidth_now(int threads) {
  return cpu::read_bandwidth_bytes_per_s(cold_buffer(), threads, 0.5);
}
double peak_now(DType dtype, int threads) {
  return cpu::matrix_peak_flops_per_s(dtype, threads, 0.1);
}

}  // namespace helix
