// MLA's products of blocks of tiles, step by step, with the caller's vector work between the steps.
#pragma once

#include "kernels/cpu/attention/mla_workspace.hpp"
#include "kernels/cpu/machine/amx_blocks.hpp"

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
    constexpr amx::Shape shape = kColumns > 2 ? amx::Shape::wide : amx::Shape::square;
    amx::multiply_step<shape, kRows, kColumns>(
        [&](auto i, auto tile) __attribute__((always_inline)) { load<tile(), kOnce == Once::a>(a_[i()]); },
        [&](auto j, auto tile) __attribute__((always_inline)) { load<tile(), kOnce == Once::b>(b_[j()]); },
        before);
  }
  HELIX_ALWAYS_INLINE void step() { step([](auto) __attribute__((always_inline)){}); }

 private:
  template <int kTile, bool kOnceOnly>
  HELIX_ALWAYS_INLINE void load(const std::byte*& from) {
    kOnceOnly ? amx::load_once<kTile>(from, 64) : amx::load<kTile>(from, 64);
    from += tile_bytes;
  }

  const std::byte *a_[kRows], *b_[kColumns];
};

/// Calls for `items` pieces of work spread evenly over `steps` steps.
class Spread {
 public:
  Spread(std::int64_t items, std::int64_t steps) : items_(items), steps_(steps) {}
  template <typename Item>
  HELIX_ALWAYS_INLINE void step(const Item& item) {
    due_ += items_;
    while (due_ >= steps_) {
      due_ -= steps_;
      item(next_++);
    }
  }

 private:
  std::int64_t items_, steps_, due_ = 0, next_ = 0;
};

}  // namespace helix::cpu::mla

#pragma GCC pop_options
