// Matrix products on AMX tiles: C[16 tokens][16 outputs] += A[16 tokens][32 inputs] B[32 inputs][16 outputs],
// B being the packed weights as they lie in memory. Up to 32 tokens against one panel of 32 outputs keep 2 x
// 2 accumulators in tiles 0-3, A in 4-5 and B in 6-7. One kibibyte of weights takes 16 cycles per 16 tokens
// here and some 150 to arrive.
#if defined(__x86_64__)
#include <algorithm>

#include "kernels/cpu/avx512_tiles.hpp"
#include "kernels/cpu/linear_kernels.hpp"

#define HELIX_TARGET_AMX \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,amx-tile,amx-bf16")))
#define HELIX_INLINE_AMX                                                                               \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,amx-tile,amx-bf16"), \
                 always_inline)) inline

namespace helix::cpu {
namespace {

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// gcc 12 declares the tile instructions without their memory operands, so the compiler may move or drop the
// stores that they read; hence the barriers.
inline void compiler_barrier() {
  asm volatile("" ::: "memory");
}

HELIX_INLINE_AMX void configure_tiles(int token_rows) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = static_cast<std::uint8_t>(tile < 6 ? token_rows : 16);
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
}

template <DType dtype>
constexpr std::int64_t block_bytes = 2 * packing::tile_values*(dtype == DType::fp8 ? 1 : 2);

// Cache lines to prefetch.
struct Lines {
  const std::byte *begin, *end;
};

// The two B tiles of a block. start() precedes the first load() of a stretch.
template <DType dtype>
struct WeightTiles;

template <>
struct WeightTiles<DType::bf16> {
  void start(const std::byte*) {}
  HELIX_INLINE_AMX void load(const std::byte* block, const std::byte*, Lines ahead) {
    for (; ahead.begin < ahead.end; ahead.begin += 64) prefetch(ahead.begin);
    _tile_loadd(6, block, 64);
    _tile_loadd(7, block + 1024, 64);
  }
};

// Widens one block ahead, so that the tile loads do not wait for the stores, and prefetches in between, so
// that the loads find fill buffers.
template <>
struct WeightTiles<DType::fp8> {
  Fp8Decoder decode;
  alignas(64) std::byte wide[2][2048];
  int current = 0;

  HELIX_INLINE_AMX WeightTiles() {}

  HELIX_INLINE_AMX void start(const std::byte* block) {
    widen(block, wide[current], {block, block});
    compiler_barrier();
  }
  HELIX_INLINE_AMX void load(const std::byte*, const std::byte* next, Lines ahead) {
    _tile_loadd(6, wide[current], 64);
    _tile_loadd(7, wide[current] + 1024, 64);
    current ^= 1;
    widen(next, wide[current], ahead);
    compiler_barrier();
  }

 private:
  HELIX_INLINE_AMX void widen(const std::byte* block, std::byte* out, Lines ahead) const {
    for (int i = 0; i < 16; ++i) {
      if (ahead.begin < ahead.end) prefetch(ahead.begin);
      ahead.begin += 64;
      __m512i row0, row1;
      decode(block + 64 * i, row0, row1);
      _mm512_store_si512(out + 128 * i, row0);
      _mm512_store_si512(out + 128 * i + 64, row1);
    }
  }
};

// A stretch of blocks of one panel, and which lines of each block further on to prefetch meanwhile.
struct Stretch {
  std::int64_t first_block, blocks;
  const std::byte* weights;
  std::int64_t prefetch_begin, prefetch_end;  // bytes from the block's start
};

// result[row_tiles * 16][32] (+)= x[row_tile0 ...] times a stretch of a panel; its first one overwrites.
template <DType dtype, int row_tiles>
HELIX_INLINE_AMX void multiply(const PackedRows& x, std::int64_t row_tile0, const Stretch& stretch,
                               WeightTiles<dtype>& weights, float* result) {
  constexpr std::int64_t row_bytes = packing::panel_outputs * sizeof(float);
  float* result1 = result + 16 * packing::panel_outputs;
  const BF16* a0 = x.tile<BF16>(row_tile0, stretch.first_block);
  const std::int64_t a_step = x.row_stride() * packing::block_inputs;
  const std::int64_t a_tile = x.blocks * a_step;
  if (stretch.first_block == 0) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (row_tiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  } else {
    _tile_loadd(0, result, row_bytes);
    _tile_loadd(1, result + 16, row_bytes);
    if constexpr (row_tiles == 2) {
      _tile_loadd(2, result1, row_bytes);
      _tile_loadd(3, result1 + 16, row_bytes);
    }
  }
  const std::byte* block = stretch.weights;
  const std::byte* last = block + (stretch.blocks - 1) * block_bytes<dtype>;
  weights.start(block);
  for (std::int64_t b = 0; b < stretch.blocks; ++b, a0 += a_step, block += block_bytes<dtype>) {
    _tile_loadd(4, a0, 64);
    weights.load(block, std::min(block + block_bytes<dtype>, last),
                 {block + stretch.prefetch_begin, block + stretch.prefetch_end});
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (row_tiles == 2) {
      _tile_loadd(5, a0 + a_tile, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, result, row_bytes);
  _tile_stored(1, result + 16, row_bytes);
  if constexpr (row_tiles == 2) {
    _tile_stored(2, result1, row_bytes);
    _tile_stored(3, result1 + 16, row_bytes);
  }
}

// Up to 128 tokens from row0 against one panel. 32 tokens go over it at a time; if there are more, they take
// turns on stretches that stay in the L1 and L2 cache, each turn prefetching its share of the next stretch,
// so that the memory is never idle.
template <DType dtype>
HELIX_INLINE_AMX void multiply_panel(const PackedRows& x, std::int64_t row0, std::int64_t rows,
                                     const std::byte* panel, WeightTiles<dtype>& weights, float* result) {
  constexpr std::int64_t stretch_blocks = 16;
  const std::int64_t turns = (rows + 31) / 32;
  const std::int64_t step = turns == 1 ? x.blocks : stretch_blocks;
  const std::int64_t distance = turns == 1 ? prefetch_bytes : stretch_blocks * block_bytes<dtype>;
  for (std::int64_t first = 0; first < x.blocks; first += step) {
    for (std::int64_t turn = 0; turn < turns; ++turn) {
      const auto share = [&](std::int64_t t) { return block_bytes<dtype> / 64 * t / turns * 64; };
      const Stretch stretch{first, std::min(step, x.blocks - first), panel + first * block_bytes<dtype>,
                            distance + share(turn), distance + (row0 == 0 ? share(turn + 1) : share(turn))};
      const std::int64_t row_tile = row0 / 16 + turn * 2;
      float* turn_result = result + turn * 32 * packing::panel_outputs;
      if (rows - turn * 32 > 16)
        multiply<dtype, 2>(x, row_tile, stretch, weights, turn_result);
      else
        multiply<dtype, 1>(x, row_tile, stretch, weights, turn_result);
    }
  }
}

template <DType dtype, class Out>
HELIX_TARGET_AMX void product(const PanelProduct<Out>& p) {
  constexpr std::int64_t rows_at_once = 128;
  alignas(64) float result[rows_at_once * packing::panel_outputs];
  WeightTiles<dtype> weights;
  const std::byte* panel = p.weights;
  compiler_barrier();
  configure_tiles(static_cast<int>(p.x.row_stride()));
  for (std::int64_t n0 = 0; n0 < p.n;
       n0 += packing::panel_outputs, panel += p.x.blocks * block_bytes<dtype>) {
    const __mmask16 mask0 = output_mask(p.n - n0), mask1 = output_mask(p.n - n0 - 16);
    for (std::int64_t row0 = 0; row0 < p.x.m; row0 += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, p.x.m - row0);
      multiply_panel<dtype>(p.x, row0, rows, panel, weights, result);
      for (std::int64_t r = 0; r < rows; ++r) {
        Out* y = p.y + (row0 + r) * p.ldy + n0;
        store_outputs(y, _mm512_load_ps(result + r * packing::panel_outputs), mask0);
        store_outputs(y + 16, _mm512_load_ps(result + r * packing::panel_outputs + 16), mask1);
      }
    }
  }
  _tile_release();
}

}  // namespace

template <class Out>
void product_amx(const PanelProduct<Out>& p) {
  p.dtype == DType::fp8 ? product<DType::fp8>(p) : product<DType::bf16>(p);
}
template void product_amx(const PanelProduct<float>&);
template void product_amx(const PanelProduct<BF16>&);

}  // namespace helix::cpu
#endif
