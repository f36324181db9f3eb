// Products of blocks of AMX tiles: up to four tiles of C = A B kept in registers.
#pragma once

#include "kernels/cpu/amx.hpp"

#if HELIX_HAVE_AMX
#include <type_traits>
#include <utility>

namespace helix::cpu::amx {

/// A block of tiles: where the first is, its row stride, and the steps to the next tile across the block (A:
/// down, B: to the right) and to the next along the summed dimension, all in bytes. Of C: steps down and to
/// the right.
struct Tiles {
  const void* first;
  std::int64_t row, across, along;

  const std::byte* at(std::int64_t i, std::int64_t k) const {
    return static_cast<const std::byte*>(first) + i * across + k * along;
  }
};

template <int kCount, typename Body>
inline void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) {
    (body(std::integral_constant<int, i>()), ...);
  }
  (std::make_integer_sequence<int, kCount>());
}

// Registers: C in 0-3, row by row; with one column A takes turns in 4-6 and B is in 7, else A is in 4-5, B in
// 6-7.

/// C and A tiles of `rows` rows, `summed` (16 or 32) bf16 along the summed dimension.
inline void configure_blocks(std::int64_t rows, std::int64_t summed, bool one_column = false) {
  TileConfig config;
  for (int c = 0; c < 4; ++c) config.set(c, rows, 64);
  for (int a = 4; a < 8; ++a) config.set(a, rows, summed * 2);
  for (int b = one_column ? 7 : 6; b < 8; ++b) config.set(b, summed / 2, 64);
  configure(config);
}

template <int kTiles>
inline void zero_sums() {
  unrolled<kTiles>([](auto i) { zero<i()>(); });
}

template <int kRows, int kColumns>
inline void load_sums(const Tiles& c) {
  unrolled<kRows * kColumns>([&](auto i) { load<i()>(c.at(i / kColumns, i % kColumns), c.row); });
}

template <int kRows, int kColumns>
inline void store_sums(const Tiles& c) {
  unrolled<kRows * kColumns>(
      [&](auto i) { store<i()>(const_cast<std::byte*>(c.at(i / kColumns, i % kColumns)), c.row); });
}

/// C += A B over `steps` tiles of the summed dimension; each_step() before each.
template <int kRows, int kColumns, typename EachStep>
inline void multiply(const Tiles& a, const Tiles& b, std::int64_t steps, const EachStep& each_step) {
  static_assert(kRows * kColumns <= 4 && (kColumns == 1 || kRows <= 2));
  constexpr int first_b = kColumns == 1 ? 7 : 6;
  for (std::int64_t k = 0; k < steps; ++k) {
    each_step();
    unrolled<kColumns>([&](auto j) { load<first_b + j()>(b.at(j, k), b.row); });
    unrolled<kRows>([&](auto i) {
      constexpr int a_tile = kColumns == 1 ? 4 + i() % 3 : 4 + i();
      load<a_tile>(a.at(i, k), a.row);
      unrolled<kColumns>([&](auto j) { multiply_add<i() * kColumns + j(), a_tile, first_b + j()>(); });
    });
  }
}

}  // namespace helix::cpu::amx
#endif
