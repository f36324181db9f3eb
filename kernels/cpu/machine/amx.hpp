// AMX tiles by inline assembly. gcc 12's intrinsics hide from the compiler what the instructions read:
// _tile_loadconfig declares an 8-byte operand and _tile_loadd none, so stores before them may be dropped or
// moved. The caller has made sure that the CPU has AMX (best_isa() == Isa::amx).
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#define HELIX_HAVE_AMX 1

#include <cstddef>
#include <cstdint>

namespace helix::cpu::amx {

/// Palette 1: eight tiles of up to 16 rows of up to 64 bytes.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  void set(int tile, std::int64_t tile_rows, std::int64_t bytes) {
    rows[tile] = static_cast<std::uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

inline void configure(const TileConfig& config) {
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
}
/// Back to the initial state, which makes thread switches cheap.
inline void release() {
  __asm__ volatile("tilerelease");
}
template <int kTile>
inline void zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
/// Completes earlier stores as far as the compiler is concerned; due between writing memory and loading tiles
/// from it.
inline void publish() {
  __asm__ volatile("" : : : "memory");
}
template <int kTile>
inline void load(const void* from, std::int64_t stride_bytes) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride_bytes), "i"(kTile));
}
/// Of a tile that is not needed again soon: it does not displace others from L1.
template <int kTile>
inline void load_once(const void* from, std::int64_t stride_bytes) {
  __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride_bytes), "i"(kTile));
}
template <int kTile>
inline void store(void* to, std::int64_t stride_bytes) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride_bytes), "i"(kTile) : "memory");
}
/// Tile kSum [m, n] += A [m, k] B [k / 2, n, 2] in bf16.
template <int kSum, int kA, int kB>
inline void multiply_add() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace helix::cpu::amx
#endif
