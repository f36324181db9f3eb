#include "bench/micro/cold_buffer.hpp"

#include <omp.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <new>

#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/machine/stream.hpp"

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

void write_ordinary_numbers() {
  constexpr std::int64_t cols = 1 << 20;
  const auto rows = static_cast<std::int64_t>(cold_buffer().size() / sizeof(BF16)) / cols;
  cpu::fill_matrix(reinterpret_cast<BF16*>(cold_buffer().data()), {1, 0, 0, rows, cols, 0.03f},
                   omp_get_max_threads());
}

Ceilings ceilings_now(int threads) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::seconds kept{3};
  static Ceilings ceilings;
  static int measured_threads = 0;
  static Clock::time_point measured_at;
  if (threads != measured_threads || Clock::now() - measured_at > kept) {
    ceilings = {cpu::read_bandwidth_bytes_per_s(cold_buffer(), threads, 0.5),
                cpu::matrix_peak_flops_per_s(DType::bf16, threads, 0.1)};
    measured_threads = threads;
    measured_at = Clock::now();
  }
  return ceilings;
}

}  // namespace helix
