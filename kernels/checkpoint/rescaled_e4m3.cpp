#include "kernels/checkpoint/rescaled_e4m3.hpp"

#include <cstring>

#include "kernels/ops/rounding.hpp"

namespace helix {
namespace {

using Table = std::array<FP8, 128>;

constexpr std::array<float, 128> magnitudes = [] {
  std::array<float, 128> values{};
  for (std::size_t bits = 0; bits < values.size(); ++bits)
    values[bits] = to_float(FP8{static_cast<std::uint8_t>(bits)});
  return values;
}();

void look_up(const Table& table, const std::byte* from, std::int64_t count, FP8* to) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<unsigned>(from[i]);
    to[i].bits = static_cast<std::uint8_t>(table[bits & 0x7fu].bits ^ (bits & 0x80u));
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
using Bytes = std::uint8_t __attribute__((vector_size(64)));

/// Two registers hold the table, and one instruction looks up 64 bytes.
__attribute__((target("avx512bw,avx512vbmi"))) std::int64_t look_up_64(const Table& table,
                                                                       const std::byte* from,
                                                                       std::int64_t count, FP8* to) {
  Bytes low, high;
  std::memcpy(&low, table.data(), sizeof(low));
  std::memcpy(&high, table.data() + sizeof(low), sizeof(high));
  std::int64_t done = 0;
  for (; done + 64 <= count; done += 64) {
    Bytes bits;
    std::memcpy(&bits, from + done, sizeof(bits));
    const Bytes rescaled = __builtin_shuffle(low, high, bits & 0x7f) ^ (bits & 0x80);
    std::memcpy(static_cast<void*>(to + done), &rescaled, sizeof(rescaled));
  }
  return done;
}
const bool looks_up_64 = __builtin_cpu_supports("avx512vbmi") != 0;
#else
constexpr bool looks_up_64 = false;
std::int64_t look_up_64(const Table&, const std::byte*, std::int64_t, FP8*) {
  return 0;
}
#endif

}  // namespace

RescaledE4m3::RescaledE4m3(float scale, float factor) {
  std::array<float, 128> scaled;
  for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] = magnitudes[i] * scale;
  round_values(scaled.data(), std::ssize(scaled), factor, of_magnitude_.data());
}

void RescaledE4m3::translate(const std::byte* from, std::int64_t count, FP8* to) const {
  const std::int64_t done = looks_up_64 ? look_up_64(of_magnitude_, from, count, to) : 0;
  look_up(of_magnitude_, from + done, count - done, to + done);
}

}  // namespace helix
