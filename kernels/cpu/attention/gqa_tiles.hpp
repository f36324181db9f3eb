// GQA's B tiles as the AMX products take them: bf16 as they lie in the cache, fp8 widened.
#pragma once

#include "kernels/cpu/machine/amx_blocks.hpp"

#if HELIX_HAVE_AMX
#include "kernels/cpu/machine/avx512.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::gqa {

constexpr std::int64_t tile_bytes = 1024;

/// The B tiles of a block, step by step: `prepare` of a step's columns, `turn`, and their `load`, which comes
/// after the next step's `prepare`.
class PlainTiles {
 public:
  static constexpr bool widened = false;
  PlainTiles(std::int64_t, std::byte*) {}
  void prepare(int, const std::byte*) {}
  void turn() {}
  template <int kTile>
  HELIX_ALWAYS_INLINE void load(int, const std::byte* tile) const {
    amx::load_once<kTile>(tile, 64);
  }
};

/// Likewise of fp8, widened a step before their use, so that neither the tile loads wait for the stores nor
/// the widening for a whole chain of products.
class WidenedTiles {
 public:
  static constexpr bool widened = true;
  static constexpr int most_columns = 4;
  /// values: of a tile; buffer: for two steps.
  WidenedTiles(std::int64_t values, std::byte* buffer)
      : whole_(values == 512), now_(buffer + most_columns * tile_bytes), ahead_(buffer) {}

  HELIX_ALWAYS_INLINE void prepare(int column, const std::byte* tile) {
    std::byte* const to = ahead_ + column * tile_bytes;
    const Widen widen = widen_;  // in registers: the stores below might change memory
    const auto widen_line = [&](auto i) __attribute__((always_inline)) {
      widen(tile + 64 * i(), to + 128 * i(), to + 128 * i() + 64);
    };
    if (whole_)
      amx::unrolled<8>(widen_line);
    else
      amx::unrolled<4>(widen_line);
    amx::publish();
  }
  void turn() { std::swap(now_, ahead_); }
  template <int kTile>
  HELIX_ALWAYS_INLINE void load(int column, const std::byte*) const {
    amx::load<kTile>(now_ + column * tile_bytes, 64);
  }

 private:
  Widen widen_;
  bool whole_;  // of 32 summed values, not 16
  std::byte *now_, *ahead_;
};

}  // namespace helix::cpu::gqa

#pragma GCC pop_options
#endif
