// GQA's B tiles as the AMX products take them, one after the other: bf16 as they lie in the cache, fp8
// widened.
#pragma once

#include "kernels/cpu/amx_blocks.hpp"

#if HELIX_HAVE_AMX
#include "kernels/cpu/avx512.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::gqa {

constexpr std::int64_t tile_bytes = 1024;

/// The B tiles of a product, one after the other: as they lie in the cache.
class PlainTiles {
 public:
  PlainTiles(const std::byte* const* order, std::int64_t, std::byte*) : next_(order) {}
  const std::byte* next() { return *next_++; }

 private:
  const std::byte* const* next_;
};

/// Likewise of fp8, each widened `lead` tiles before its use, so that neither the tile loads wait for the
/// stores nor the widening for a whole chain of products.
class WidenedTiles {
 public:
  static constexpr int lead = 2, ring_tiles = 4;
  WidenedTiles(const std::byte* const* order, std::int64_t values, std::byte* ring)
      : ahead_(order), whole_(values == 512), ring_(ring) {
    for (int i = 0; i < lead; ++i) widen_next();
  }
  [[gnu::always_inline]] const std::byte* next() {
    const std::byte* const tile = ring_ + (turn_ - lead) % ring_tiles * tile_bytes;
    widen_next();
    return tile;
  }

 private:
  [[gnu::always_inline]] void widen_next() {
    const std::byte* const from = *ahead_++;
    std::byte* const to = ring_ + turn_++ % ring_tiles * tile_bytes;
    const Widen widen = widen_;  // in registers: the stores below might change memory
    const auto widen_line = [&](auto i) __attribute__((always_inline)) {
      widen(from + 64 * i(), to + 128 * i(), to + 128 * i() + 64);
    };
    if (whole_)
      amx::unrolled<8>(widen_line);
    else
      amx::unrolled<4>(widen_line);
    amx::publish();
  }

  Widen widen_;
  const std::byte* const* ahead_;
  bool whole_;  // of 32 summed values, not 16
  std::byte* ring_;
  unsigned turn_ = 0;
};

}  // namespace helix::cpu::gqa

#pragma GCC pop_options
#endif
