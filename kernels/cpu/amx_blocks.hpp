// Products of blocks of AMX tiles: up to four tiles of C = A B kept in registers.
#pragma once

#include "kernels/cpu/amx.hpp"

#if HELIX_HAVE_AMX
#include <type_traits>
#include <utility>

// The target of the kernels: what has another target is not inlined.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

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
__attribute__((always_inline)) inline void unrolled(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, i>()), ...);
  }
  (std::make_integer_sequence<int, kCount>());
}

/// Which tile registers hold A and B; C is in 0-3, row by row. A block is up to 2 by 2 tiles (square) or 1 by
/// 4 (wide: B takes turns in three registers).
enum class Shape { square, wide };

/// C and A tiles of `rows` rows, `summed` (16 or 32) bf16 along the summed dimension.
inline void configure_blocks(Shape shape, std::int64_t rows, std::int64_t summed) {
  const int first_b = shape == Shape::square ? 6 : 5;
  TileConfig config;
  for (int c = 0; c < 4; ++c) config.set(c, rows, 64);
  for (int a = 4; a < first_b; ++a) config.set(a, rows, summed * 2);
  for (int b = first_b; b < 8; ++b) config.set(b, summed / 2, 64);
  configure(config);
}

template <int kTiles>
inline void zero_sums() {
  unrolled<kTiles>([](auto i) { zero<i()>(); });
}

template <int kRows, int kColumns>
inline void load_sums(const Tiles& c) {
  publish();
  unrolled<kRows * kColumns>([&](auto i) { load<i()>(c.at(i / kColumns, i % kColumns), c.row); });
}

template <int kRows, int kColumns>
inline void store_sums(const Tiles& c) {
  unrolled<kRows * kColumns>(
      [&](auto i) { store<i()>(const_cast<std::byte*>(c.at(i / kColumns, i % kColumns)), c.row); });
}

/// Which register holds the tiles of B of column j.
template <Shape kShape>
constexpr int b_register(int j) {
  return kShape == Shape::square ? 6 + j % 2 : 5 + j % 3;
}

/// C += A B over `steps` tiles of the summed dimension; load_b(j) loads column j's next tile into register
/// b_register(j), each_step() comes before each tile product.
template <Shape kShape, int kRows, int kColumns, typename LoadB, typename EachStep>
inline void multiply_loading(const Tiles& a, std::int64_t steps, const LoadB& load_b,
                             const EachStep& each_step) {
  static_assert(kShape == Shape::square ? kRows <= 2 && kColumns <= 2 : kRows == 1 && kColumns <= 4);
  constexpr int a_tiles = kShape == Shape::square ? 2 : 1, b_tiles = 4 - a_tiles;
  publish();
  const std::byte* a_at[kRows];
  for (int i = 0; i < kRows; ++i) a_at[i] = a.at(i, 0);
  const auto load_a = [&, row = a.row, along = a.along](auto i) {
    load<4 + i() % a_tiles>(a_at[i()], row);
    a_at[i()] += along;
  };
  for (std::int64_t k = 0; k < steps; ++k) {
    // The operand that does not take turns first.
    if constexpr (kShape == Shape::wide) load_a(std::integral_constant<int, 0>());
    if constexpr (kShape == Shape::square) unrolled<kColumns>(load_b);
    unrolled<kRows>([&](auto i) {
      if constexpr (kShape == Shape::square) load_a(i);
      unrolled<kColumns>([&](auto j) {
        each_step();
        if constexpr (kShape == Shape::wide) load_b(j);
        multiply_add<i() * kColumns + j(), 4 + i() % a_tiles, 4 + a_tiles + j() % b_tiles>();
      });
    });
  }
}

/// With the tiles of B at regular steps.
template <Shape kShape, int kRows, int kColumns, typename EachStep>
inline void multiply(const Tiles& a, const Tiles& b, std::int64_t steps, const EachStep& each_step) {
  const std::byte* b_at[kColumns];
  for (int j = 0; j < kColumns; ++j) b_at[j] = b.at(j, 0);
  const auto load_b = [&, row = b.row, along = b.along](auto j) {
    load<b_register<kShape>(j())>(b_at[j()], row);
    b_at[j()] += along;
  };
  multiply_loading<kShape, kRows, kColumns>(a, steps, load_b, each_step);
}

/// With B's tiles where next_b() says, one after the other: step by step those of all columns, rows of 64
/// bytes.
template <Shape kShape, int kRows, int kColumns, typename NextB>
inline void multiply(const Tiles& a, std::int64_t steps, const NextB& next_b) {
  multiply_loading<kShape, kRows, kColumns>(
      a, steps, [&](auto j) { load<b_register<kShape>(j())>(next_b(), 64); }, [] {});
}

}  // namespace helix::cpu::amx

#pragma GCC pop_options
#endif
