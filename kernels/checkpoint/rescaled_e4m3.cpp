#include "kernels/checkpoint/rescaled_e4m3.hpp"

#include <cstring>

#include "kernels/ops/rounding.hpp"

namespace helix {
namespace {

template <class T>
using Table = std::array<T, 128>;

constexpr std::array<float, 128> magnitudes = [] {
  std::array<float, 128> values{};
  for (std::size_t bits = 0; bits < values.size(); ++bits)
    values[bits] = to_float(FP8{static_cast<std::uint8_t>(bits)});
  return values;
}();

template <class T>
void look_up(const Table<T>& table, const std::byte* from, std::int64_t count, T* to) {
  using Bits = decltype(T::bits);
  constexpr int sign_shift = 8 * (sizeof(Bits) - 1);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<unsigned>(from[i]);
    to[i].bits = static_cast<Bits>(table[bits & 0x7fu].bits ^ (bits & 0x80u) << sign_shift);
  }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
using Bytes = std::uint8_t __attribute__((vector_size(64)));
using HalfBytes = std::uint8_t __attribute__((vector_size(32)));
using Words = std::uint16_t __attribute__((vector_size(64)));

/// A register's width of a table, `part` registers behind its beginning.
template <class Vector, class T>
__attribute__((target("avx512bw,avx512vbmi"), always_inline)) inline Vector part_of(const Table<T>& table,
                                                                                    std::size_t part) {
  Vector values;
  std::memcpy(&values, reinterpret_cast<const std::byte*>(table.data()) + part * sizeof(values),
              sizeof(values));
  return values;
}

/// Two registers hold the table, and one instruction looks up 64 bytes.
__attribute__((target("avx512bw,avx512vbmi"))) std::int64_t look_up_many(const Table<FP8>& table,
                                                                         const std::byte* from,
                                                                         std::int64_t count, FP8* to) {
  const auto low = part_of<Bytes>(table, 0), high = part_of<Bytes>(table, 1);
  std::int64_t done = 0;
  for (; done + 64 <= count; done += 64) {
    Bytes bits;
    std::memcpy(&bits, from + done, sizeof(bits));
    const Bytes rescaled = __builtin_shuffle(low, high, bits & 0x7f) ^ (bits & 0x80);
    std::memcpy(static_cast<void*>(to + done), &rescaled, sizeof(rescaled));
  }
  return done;
}

/// Four registers do, and one instruction looks up 32 values in two of them.
__attribute__((target("avx512bw,avx512vbmi"))) std::int64_t look_up_many(const Table<BF16>& table,
                                                                         const std::byte* from,
                                                                         std::int64_t count, BF16* to) {
  const auto first = part_of<Words>(table, 0), second = part_of<Words>(table, 1),
             third = part_of<Words>(table, 2), fourth = part_of<Words>(table, 3);
  std::int64_t done = 0;
  for (; done + 32 <= count; done += 32) {
    HalfBytes bytes;
    std::memcpy(&bytes, from + done, sizeof(bytes));
    const Words bits = __builtin_convertvector(bytes, Words);
    const Words lower = __builtin_shuffle(first, second, bits & 0x3f),
                upper = __builtin_shuffle(third, fourth, bits & 0x3f);
    const Words rescaled = ((bits & 0x40) != 0 ? upper : lower) ^ (bits & 0x80) << 8;
    std::memcpy(static_cast<void*>(to + done), &rescaled, sizeof(rescaled));
  }
  return done;
}
const bool looks_up_many = __builtin_cpu_supports("avx512vbmi") != 0;
#else
constexpr bool looks_up_many = false;
template <class T>
std::int64_t look_up_many(const Table<T>&, const std::byte*, std::int64_t, T*) {
  return 0;
}
#endif

}  // namespace

template <class T>
RescaledE4m3<T>::RescaledE4m3(float scale, float factor) {
  std::array<float, 128> scaled;
  for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] = magnitudes[i] * scale;
  round_values(scaled.data(), std::ssize(scaled), factor, of_magnitude_.data());
}

template <class T>
void RescaledE4m3<T>::translate(const std::byte* from, std::int64_t count, T* to) const {
  const std::int64_t done = looks_up_many ? look_up_many(of_magnitude_, from, count, to) : 0;
  look_up(of_magnitude_, from + done, count - done, to + done);
}

template class RescaledE4m3<FP8>;
template class RescaledE4m3<BF16>;

}  // namespace helix
