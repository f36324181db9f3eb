// Products of blocks of tiles with vector work beside each step, which the caller puts between the steps.
#pragma once

#include "kernels/cpu/amx_blocks.hpp"
#include "kernels/cpu/mla_workspace.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::mla {

enum class Once { a, b };  // which operand is not used again soon

/// Tiles 0 to 3 += A B, a block of one by two or four or of two by one or two tiles, step by step along the
/// summed dimension, in which the tiles of 64-byte rows follow each other. a_across, b_across: bytes to the
/// next row or column of tiles.
template <int kRows, int kColumns, Once kOnce>
class Product {
 public:
  Product(const std::byte* a, std::int64_t a_across, const std::byte* b, std::int64_t b_across) {
    for (int i = 0; i < kRows; ++i) a_[i] = a + i * a_across;
    for (int j = 0; j < kColumns; ++j) b_[j] = b + j * b_across;
    amx::publish();
  }

  /// before(i) comes just before the product that is added to sum i.
  template <typename Before>
  HELIX_ALWAYS_INLINE void step(const Before& before) {
    constexpr int a_tiles = kColumns > 2 ? 1 : 2, b_tiles = 4 - a_tiles;
    const auto load_a = [&](auto i) __attribute__((always_inline)) {
      constexpr int tile = 4 + i() % a_tiles;
      kOnce == Once::a ? amx::load_once<tile>(a_[i()], 64) : amx::load<tile>(a_[i()], 64);
      a_[i()] += tile_bytes;
    };
    const auto load_b = [&](auto j) __attribute__((always_inline)) {
      constexpr int tile = 4 + a_tiles + j() % b_tiles;
      kOnce == Once::b ? amx::load_once<tile>(b_[j()], 64) : amx::load<tile>(b_[j()], 64);
      b_[j()] += tile_bytes;
    };
    if constexpr (kColumns <= b_tiles) amx::unrolled<kColumns>(load_b);
    amx::unrolled<kRows>([&](auto i) __attribute__((always_inline)) {
      load_a(i);
      amx::unrolled<kColumns>([&](auto j) __attribute__((always_inline)) {
        if constexpr (kColumns > b_tiles) load_b(j);
        constexpr int sum = i() * kColumns + j();
        before(std::integral_constant<int, sum>());
        amx::multiply_add<sum, 4 + i() % a_tiles, 4 + a_tiles + j() % b_tiles>();
      });
    });
  }
  HELIX_ALWAYS_INLINE void step() { step([](auto) __attribute__((always_inline)){}); }

 private:
  const std::byte *a_[kRows], *b_[kColumns];
};

/// Sums that tiles 0 to 3 hold and are yet to be stored. A tile store is many micro-operations that wait for
/// the tile's last product: each is left until just before the first product of the tile's next sum, so that
/// the tile unit is busy meanwhile.
class PendingSums {
 public:
  template <int kTile>
  HELIX_ALWAYS_INLINE void store() {
    if (to_[kTile] != nullptr) amx::store<kTile>(to_[kTile], 64);
    to_[kTile] = nullptr;
  }
  template <int kFirst = 0>
  HELIX_ALWAYS_INLINE void store_from() {
    amx::unrolled<4 - kFirst>([&](auto i) __attribute__((always_inline)) { store<kFirst + i()>(); });
  }
  template <int kRows, int kColumns>
  HELIX_ALWAYS_INLINE void leave(const amx::Tiles& c) {
    for (int i = 0; i < kRows * kColumns; ++i)
      to_[i] = const_cast<std::byte*>(c.at(i / kColumns, i % kColumns));
  }

 private:
  std::byte* to_[4] = {};
};

}  // namespace helix::cpu::mla

#pragma GCC pop_options
