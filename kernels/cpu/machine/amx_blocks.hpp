// Products of blocks of AMX tiles: up to four tiles of C = A B kept in registers.
#pragma once

#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include <type_traits>
#include <utility>

// The target of the kernels: what has another target is not inlined.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

// The vector work between tile products must be few instructions: only a few hundred are in flight at a time,
// and the tile unit idles when they hold no tile product.
#define HELIX_ALWAYS_INLINE __attribute__((always_inline)) inline

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
HELIX_ALWAYS_INLINE void unrolled(const Body& body) {
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

/// Tiles 0 to 3 += A B, one step along the summed dimension. load_a(i, r) loads row i's tile into register
/// r, load_b(j, r) column j's; before(i) comes just before the product that is added to sum i. All
/// arguments are constants.
template <Shape kShape, int kRows, int kColumns, typename LoadA, typename LoadB, typename Before>
HELIX_ALWAYS_INLINE void multiply_step(const LoadA& load_a, const LoadB& load_b, const Before& before) {
  static_assert(kShape == Shape::square ? kRows <= 2 && kColumns <= 2 : kRows == 1 && kColumns <= 4);
  constexpr int a_tiles = kShape == Shape::square ? 2 : 1, b_tiles = 4 - a_tiles;
  const auto load_column = [&](auto j) __attribute__((always_inline)) {
    load_b(j, std::integral_constant<int, 4 + a_tiles + j() % b_tiles>());
  };
  if constexpr (kShape == Shape::square) unrolled<kColumns>(load_column);
  unrolled<kRows>([&](auto i) __attribute__((always_inline)) {
    load_a(i, std::integral_constant<int, 4 + i()>());
    unrolled<kColumns>([&](auto j) __attribute__((always_inline)) {
      if constexpr (kShape == Shape::wide) load_column(j);
      constexpr int sum = i() * kColumns + j();
      before(std::integral_constant<int, sum>());
      multiply_add<sum, 4 + i(), 4 + a_tiles + j() % b_tiles>();
    });
  });
}

/// Sums that tiles 0 to 3 hold and are yet to be stored. A tile store is many micro-operations that wait for
/// the tile's last product: each is left until just before the first product of the tile's next sum, so that
/// the tile unit is busy meanwhile.
class PendingSums {
 public:
  template <int kTile>
  HELIX_ALWAYS_INLINE void store() {
    if (to_[kTile] != nullptr) amx::store<kTile>(to_[kTile], row_);
    to_[kTile] = nullptr;
  }
  template <int kFirst = 0>
  HELIX_ALWAYS_INLINE void store_from() {
    unrolled<4 - kFirst>([&](auto i) __attribute__((always_inline)) { store<kFirst + i()>(); });
  }
  /// To be called with the same row stride until all is stored.
  template <int kRows, int kColumns>
  HELIX_ALWAYS_INLINE void leave(const Tiles& c) {
    for (int i = 0; i < kRows * kColumns; ++i)
      to_[i] = const_cast<std::byte*>(c.at(i / kColumns, i % kColumns));
    row_ = c.row;
  }

 private:
  std::byte* to_[4] = {};
  std::int64_t row_ = 64;
};

}  // namespace helix::cpu::amx

#pragma GCC pop_options
#endif
