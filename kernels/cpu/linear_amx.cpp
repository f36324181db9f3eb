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

// The two B tiles of a block.
template <DType dtype>
struct WeightTiles;

template <>
struct WeightTiles<DType::bf16> {
  HELIX_INLINE_AMX void load(const std::byte* block) {
    _tile_loadd(6, block, 64);
    _tile_loadd(7, block + 1024, 64);
  }
};

template <>
struct WeightTiles<DType::fp8> {
  Fp8Decoder decode;
  alignas(64) std::byte wide[2048];

  HELIX_INLINE_AMX WeightTiles() {}

  HELIX_INLINE_AMX void load(const std::byte* block) {
    for (int i = 0; i < 16; ++i) {
      __m512i row0, row1;
      decode(block + 64 * i, row0, row1);
      _mm512_store_si512(wide + 128 * i, row0);
      _mm512_store_si512(wide + 128 * i + 64, row1);
    }
    compiler_barrier();
    _tile_loadd(6, wide, 64);
    _tile_loadd(7, wide + 1024, 64);
    compiler_barrier();
  }
};

// result[row_tiles * 16][32] = x[row_tile0 ...] times one panel.
template <DType dtype, int row_tiles>
HELIX_INLINE_AMX void multiply(const PackedRows& x, std::int64_t row_tile0, const std::byte* panel,
                               bool prefetch, WeightTiles<dtype>& weights, float* result) {
  const std::int64_t block_bytes = packing::panel_bytes(packing::block_inputs, dtype);
  const BF16* a0 = x.tile<BF16>(row_tile0, 0);
  const std::int64_t a_step = x.row_stride() * packing::block_inputs;
  const std::int64_t a_tile = x.blocks * a_step;
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (row_tiles == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t b = 0; b < x.blocks; ++b, a0 += a_step, panel += block_bytes) {
    if (prefetch) prefetch_ahead(panel, block_bytes, prefetch_bytes);
    _tile_loadd(4, a0, 64);
    weights.load(panel);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (row_tiles == 2) {
      _tile_loadd(5, a0 + a_tile, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, result, 128);
  _tile_stored(1, result + 16, 128);
  if constexpr (row_tiles == 2) {
    _tile_stored(2, result + 16 * 32, 128);
    _tile_stored(3, result + 16 * 32 + 16, 128);
  }
}

template <DType dtype, class Out>
HELIX_TARGET_AMX void product(const PanelProduct<Out>& p) {
  alignas(64) float result[32 * 32];
  WeightTiles<dtype> weights;
  const std::byte* panel = p.weights;
  const std::int64_t panel_bytes = p.x.blocks * packing::panel_bytes(packing::block_inputs, dtype);
  compiler_barrier();
  configure_tiles(static_cast<int>(p.x.row_stride()));
  for (std::int64_t n0 = 0; n0 < p.n; n0 += packing::panel_outputs, panel += panel_bytes) {
    const __mmask16 mask0 = output_mask(p.n - n0), mask1 = output_mask(p.n - n0 - 16);
    for (std::int64_t row = 0; row < p.x.m; row += 32) {
      if (p.x.m - row > 16)
        multiply<dtype, 2>(p.x, row / 16, panel, row == 0, weights, result);
      else
        multiply<dtype, 1>(p.x, row / 16, panel, row == 0, weights, result);
      const std::int64_t rows = std::min<std::int64_t>(32, p.x.m - row);
      for (std::int64_t r = 0; r < rows; ++r) {
        Out* y = p.y + (row + r) * p.ldy + n0;
        store_outputs(y, _mm512_load_ps(result + r * 32), mask0);
        store_outputs(y + 16, _mm512_load_ps(result + r * 32 + 16), mask1);
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
