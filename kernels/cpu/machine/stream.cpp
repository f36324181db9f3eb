#include "kernels/cpu/machine/stream.hpp"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/cpu/machine/amx.hpp"
#include "kernels/cpu/machine/isa.hpp"
#include "kernels/ops/synthetic.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/machine/stream.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Sum of the 32-bit words of `streams` consecutive stretches of `stride` bytes, read side by side, a
/// cache line of each in turn; lines are requested into L2 `ahead` lines before they are summed (0: left
/// to the hardware).
std::uint32_t SumStreams(const std::byte* from, std::size_t stride, int streams, std::size_t ahead) {
  constexpr hn::CappedTag<std::uint32_t, 16> d;
  const std::size_t n = hn::Lanes(d);
  auto sum = hn::Zero(d);
  for (std::size_t at = 0; at < stride; at += 64) {
    for (int s = 0; s < streams; ++s) {
      const std::byte* const line = from + static_cast<std::size_t>(s) * stride + at;
      if (ahead != 0) __builtin_prefetch(line + ahead * 64, 0, 2);
      const auto* const words = reinterpret_cast<const std::uint32_t*>(line);
      for (std::size_t i = 0; i < 16; i += n) sum = hn::Add(sum, hn::LoadU(d, words + i));
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// fp32 multiply-adds in registers; returns how many FLOP.
double MultiplyAdd(std::int64_t rounds, float* out) {
  constexpr hn::CappedTag<float, 16> d;
  constexpr int chains = 12;  // more than latency (4 cycles) times two units
  hn::Vec<decltype(d)> sum[chains];
  for (auto& x : sum) x = hn::Set(d, *out);
  const auto a = hn::Set(d, 0.5f * *out), b = hn::Set(d, 0.25f);
  for (std::int64_t r = 0; r < rounds; ++r)
    for (auto& x : sum) x = hn::MulAdd(x, a, b);
  for (int i = 1; i < chains; ++i) sum[0] = hn::Add(sum[0], sum[i]);
  *out = hn::GetLane(hn::SumOfLanes(d, sum[0]));
  return 2.0 * chains * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {
namespace {

HWY_EXPORT(SumStreams);
HWY_EXPORT(MultiplyAdd);

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Every thread repeats work(thread) -> amount for `seconds`; the sum of the threads' rates.
template <typename Work>
double total_rate(int threads, double seconds, const Work& work) {
  double rate = 0.0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
  {
    const int thread = omp_get_thread_num();
    const auto start = Clock::now();
    double amount = 0.0, elapsed = 0.0;
    do {
      amount += work(thread);
      elapsed = seconds_since(start);
    } while (elapsed < seconds);
    rate += amount / elapsed;
  }
  return rate;
}

struct Pattern {
  int streams;
  std::size_t block_bytes;  // the streams are block_bytes / streams apart
  std::size_t lines_ahead;
};
constexpr Pattern patterns[] = {
    {1, 1 << 20, 0},  {1, 1 << 20, 32}, {4, 1 << 20, 16},   {8, 1 << 20, 8},
    {16, 1 << 20, 4}, {8, 1 << 16, 0},  {8, 1 << 16, 8},    {8, 1 << 17, 8},
    {8, 1 << 18, 16}, {8, 1 << 20, 32}, {8, 1 << 16, 1024}, {8, 1 << 17, 2048},
};

#if HELIX_HAVE_AMX
// On ordinary numbers: products of zeros draw less power and run faster than any kernel's (1 / 0.79 on a Xeon
// of the Sapphire Rapids generation).
double multiply_tiles() {
  constexpr int rounds = 4096;
  alignas(64) BF16 values[2][16 * 32];
  for (std::uint32_t tile = 0; tile < 2; ++tile)
    for (std::uint32_t i = 0; i < 16 * 32; ++i) values[tile][i] = to_bf16(synthetic::unit_value(tile, i));
  amx::publish();
  amx::TileConfig config;
  for (int t = 0; t < 8; ++t) config.set(t, 16, 64);
  amx::configure(config);
  amx::zero<0>(), amx::zero<1>(), amx::zero<2>(), amx::zero<3>();
  amx::load<6>(values[0], 64), amx::load<7>(values[1], 64);
  for (int r = 0; r < rounds; ++r) {
    amx::multiply_add<0, 6, 7>();
    amx::multiply_add<1, 6, 7>();
    amx::multiply_add<2, 6, 7>();
    amx::multiply_add<3, 6, 7>();
  }
  amx::release();
  return 4.0 * rounds * 2 * 16 * 16 * 32;
}
#endif

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) double multiply_bf16_pairs(float* out) {
  constexpr int rounds = 1 << 15, chains = 12;
  __m512 sum[chains];
  for (auto& x : sum) x = _mm512_set1_ps(*out);
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_ps(*out));
  for (int r = 0; r < rounds; ++r)
    for (auto& x : sum) x = _mm512_dpbf16_ps(x, a, a);
  for (int i = 1; i < chains; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  *out = _mm512_cvtss_f32(sum[0]);
  return 2.0 * 32 * chains * rounds;
}
#endif

}  // namespace

double read_bandwidth_bytes_per_s(std::span<const std::byte> buffer, int threads, double seconds) {
  best_isa();  // sets what Highway dispatches to
  const std::size_t part = buffer.size() / static_cast<std::size_t>(threads) / 64 * 64;
  // A cursor a thread, so that a pattern goes on where the last one ended and finds nothing in the cache.
  struct alignas(128) Cursor {
    std::size_t at = 0;
    std::uint32_t sum = 0;
  };
  std::vector<Cursor> cursors(static_cast<std::size_t>(threads));
  double best = 0.0;
  // Samples short enough for some to fall between the disturbances of a shared machine.
  constexpr double sample_s = 0.005;
  const auto rounds = std::max(1, static_cast<int>(seconds / (sample_s * std::size(patterns))));
  for (int round = 0; round < rounds; ++round)
    for (const Pattern& pattern : patterns)
      best = std::max(
          best, total_rate(threads, sample_s, [&](int thread) {
            Cursor& cursor = cursors[static_cast<std::size_t>(thread)];
            const std::size_t bytes = std::min(part / static_cast<std::size_t>(64 * pattern.streams) *
                                                   static_cast<std::size_t>(64 * pattern.streams),
                                               pattern.block_bytes);
            if (cursor.at + bytes > part) cursor.at = 0;
            cursor.sum += HWY_DYNAMIC_DISPATCH(SumStreams)(
                buffer.data() + static_cast<std::size_t>(thread) * part + cursor.at,
                bytes / static_cast<std::size_t>(pattern.streams), pattern.streams, pattern.lines_ahead);
            cursor.at += bytes;
            return static_cast<double>(bytes);
          }));
  // The sums must seem to be used.
  for (const Cursor& cursor : cursors) __asm__ volatile("" : : "r"(cursor.sum));
  return best;
}

double matrix_peak_flops_per_s(DType dtype, int threads, double seconds) {
  best_isa();  // sets what Highway dispatches to
  const auto rate = [&](const auto& work) {
    double best = 0.0;
    for (int i = 0; i < 10; ++i) best = std::max(best, total_rate(threads, seconds / 10, work));
    return best;
  };
  const auto fma = [](int) {
    float x = 0.25f;
    const double flops = HWY_DYNAMIC_DISPATCH(MultiplyAdd)(1 << 15, &x);
    __asm__ volatile("" : : "r"(x));
    return flops;
  };
  if (dtype == DType::fp32) return rate(fma);
  switch (best_isa()) {
#if HELIX_HAVE_AMX
    case Isa::amx:
      return rate([](int) { return multiply_tiles(); });
#endif
#if defined(__x86_64__)
    case Isa::avx512_bf16:
      return rate([](int) {
        float x = 0.25f;
        const double flops = multiply_bf16_pairs(&x);
        __asm__ volatile("" : : "r"(x));
        return flops;
      });
#endif
    default:
      return rate(fma);
  }
}

double core_clock_hz() {
#if defined(__x86_64__)
#define HELIX_DOUBLE "add %0, %0\n"
#elif defined(__aarch64__)
#define HELIX_DOUBLE "add %0, %0, %0\n"
#endif
#ifdef HELIX_DOUBLE
  constexpr int rounds = 4000, additions = 16;
  std::uint64_t x = 1;
  const auto start = Clock::now();
  for (int i = 0; i < rounds; ++i) __asm__ volatile(".rept 16\n" HELIX_DOUBLE ".endr" : "+r"(x));
  return rounds * additions / seconds_since(start);
#else
  return 0;
#endif
}

}  // namespace helix::cpu
#endif
