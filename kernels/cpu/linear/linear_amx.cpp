// Matrix products on AMX tiles: C[16 tokens][16 outputs] += A[16 tokens][32 inputs] B[32 inputs][16 outputs],
// B being the packed weights as they lie in memory. Up to 32 tokens against one panel of 32 outputs keep 2 x
// 2 accumulators in tiles 0-3, A in 4-5 and B in 6-7. A kibibyte of weights takes 16 cycles per 16 tokens
// here and some 150 to arrive.
#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>

#include "kernels/cpu/linear/avx512_tiles.hpp"
#include "kernels/cpu/linear/linear_kernels.hpp"

namespace helix::cpu {
namespace {

template <DType dtype>
constexpr std::int64_t block_bytes = 2 * packing::tile_values*(dtype == DType::fp8 ? 1 : 2);

// Cache lines to prefetch.
struct Lines {
  const std::byte *begin, *end;
};

// Loads the two B tiles of a block. start() precedes the first load() of a stretch.
template <DType dtype>
class WeightTiles;

template <>
class WeightTiles<DType::bf16> {
 public:
  static constexpr std::size_t buffer_bytes = 64;
  explicit WeightTiles(std::byte*) {}

  void start(const std::byte*) {}
  void load(const std::byte* block, const std::byte*, Lines ahead) {
    const std::byte* middle = ahead.begin + (ahead.end - ahead.begin) / 128 * 64;
    amx::load<6>(block, 64);
    for (; ahead.begin < middle; ahead.begin += 64) prefetch(ahead.begin);
    amx::load<7>(block + 1024, 64);
    for (; ahead.begin < ahead.end; ahead.begin += 64) prefetch(ahead.begin);
  }
};

// Widens one block ahead, so that the tile loads do not wait for the stores, and prefetches in between, so
// that the loads find fill buffers.
template <>
class WeightTiles<DType::fp8> {
 public:
  static constexpr std::size_t buffer_bytes = 2 * 2048;
  HELIX_INLINE_AVX512 explicit WeightTiles(std::byte* buffer) : current_(buffer), other_(buffer + 2048) {}

  HELIX_INLINE_AVX512 void start(const std::byte* block) { widen(block, current_, {block, block}); }
  HELIX_INLINE_AVX512 void load(const std::byte*, const std::byte* next, Lines ahead) {
    amx::load<6>(current_, 64);
    amx::load<7>(current_ + 1024, 64);
    std::swap(current_, other_);
    widen(next, current_, ahead);
  }

 private:
  HELIX_INLINE_AVX512 void widen(const std::byte* block, std::byte* out, Lines ahead) const {
    for (int i = 0; i < 16; ++i) {
      if (ahead.begin < ahead.end) prefetch(ahead.begin);
      ahead.begin += 64;
      __m512i row0, row1;
      decode_(block + 64 * i, row0, row1);
      _mm512_store_si512(out + 128 * i, row0);
      _mm512_store_si512(out + 128 * i + 64, row1);
    }
  }

  Fp8Decoder decode_;
  std::byte *current_, *other_;
};

// A stretch of blocks of one panel, and which lines of each block further on to prefetch meanwhile.
struct Stretch {
  std::int64_t first_block, blocks;
  const std::byte* weights;
  std::int64_t prefetch_begin, prefetch_end;  // bytes from the block's start
};

// result[row_tiles * 16][32] (+)= x[row_tile0 ...] times a stretch of a panel; its first one overwrites.
template <DType dtype, int row_tiles>
HELIX_INLINE_AVX512 void multiply(const PackedRows& x, std::int64_t row_tile0, const Stretch& stretch,
                                  WeightTiles<dtype>& weights, float* result) {
  constexpr std::int64_t row_bytes = packing::panel_outputs * sizeof(float);
  float* result1 = result + 16 * packing::panel_outputs;
  const BF16* a0 = x.tile<BF16>(row_tile0, stretch.first_block);
  const std::int64_t a_step = x.row_stride() * packing::block_inputs;
  const std::int64_t a_tile = x.blocks * a_step;
  if (stretch.first_block == 0) {
    amx::zero<0>();
    amx::zero<1>();
    if constexpr (row_tiles == 2) {
      amx::zero<2>();
      amx::zero<3>();
    }
  } else {
    amx::load<0>(result, row_bytes);
    amx::load<1>(result + 16, row_bytes);
    if constexpr (row_tiles == 2) {
      amx::load<2>(result1, row_bytes);
      amx::load<3>(result1 + 16, row_bytes);
    }
  }
  const std::byte* block = stretch.weights;
  const std::byte* last = block + (stretch.blocks - 1) * block_bytes<dtype>;
  weights.start(block);
  for (std::int64_t b = 0; b < stretch.blocks; ++b, a0 += a_step, block += block_bytes<dtype>) {
    amx::load<4>(a0, 64);
    weights.load(block, std::min(block + block_bytes<dtype>, last),
                 {block + stretch.prefetch_begin, block + stretch.prefetch_end});
    amx::multiply_add<0, 4, 6>();
    amx::multiply_add<1, 4, 7>();
    if constexpr (row_tiles == 2) {
      amx::load<5>(a0 + a_tile, 64);
      amx::multiply_add<2, 5, 6>();
      amx::multiply_add<3, 5, 7>();
    }
  }
  amx::store<0>(result, row_bytes);
  amx::store<1>(result + 16, row_bytes);
  if constexpr (row_tiles == 2) {
    amx::store<2>(result1, row_bytes);
    amx::store<3>(result1 + 16, row_bytes);
  }
}

// Up to 128 tokens from row0 against one panel. 32 tokens go over it at a time; if there are more, they take
// turns on stretches that stay in the L1 and L2 cache, each turn prefetching its share of the next stretch,
// so that the memory is never idle.
template <DType dtype>
HELIX_INLINE_AVX512 void multiply_panel(const PackedRows& x, std::int64_t row0, std::int64_t rows,
                                        const std::byte* panel, WeightTiles<dtype>& weights, float* result) {
  constexpr std::int64_t stretch_blocks = 8;
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
HELIX_TARGET_AVX512 void product(const PanelProduct<Out>& p) {
  constexpr std::int64_t rows_at_once = 128;
  alignas(64) float result[rows_at_once * packing::panel_outputs];
  alignas(64) std::byte buffer[WeightTiles<dtype>::buffer_bytes];
  WeightTiles<dtype> weights(buffer);
  amx::TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, tile < 6 ? p.x.row_stride() : 16, 64);
  amx::configure(config);
  const __m512 scale = _mm512_set1_ps(p.scale);
  const std::byte* panel = p.weights;
  for (std::int64_t n0 = 0; n0 < p.n;
       n0 += packing::panel_outputs, panel += p.x.blocks * block_bytes<dtype>) {
    const __mmask16 mask0 = output_mask(p.n - n0), mask1 = output_mask(p.n - n0 - 16);
    for (std::int64_t row0 = 0; row0 < p.x.m; row0 += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, p.x.m - row0);
      multiply_panel<dtype>(p.x, row0, rows, panel, weights, result);
      for (std::int64_t r = 0; r < rows; ++r) {
        Out* y = p.y + (row0 + r) * p.ldy + n0;
        const float* sums = result + r * packing::panel_outputs;
        store_outputs(y, _mm512_mul_ps(_mm512_load_ps(sums), scale), mask0);
        store_outputs(y + 16, _mm512_mul_ps(_mm512_load_ps(sums + 16), scale), mask1);
      }
    }
  }
  amx::release();
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
