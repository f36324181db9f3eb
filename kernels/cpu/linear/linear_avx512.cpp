// Matrix products with AVX-512 bf16 dot products: a cache line of weights holds two inputs of 16
// outputs, and vdpbf16ps multiplies it with the broadcast pair of inputs of one token. Up to 8 tokens
// keep 2 x 8 accumulators; of up to 4, bf16 weights are read line by line as they lie in memory, as AMD's own
// prefetchers follow them: on a Zen 4 (one thread, gate+up of Llama-3.2-1B) 30 GB/s instead of 19 for one token and
// 22 for four, of 33; prefetching 8 KiB ahead to L2 as well costs a quarter of that.
#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

#include "kernels/cpu/linear/avx512_tiles.hpp"
#include "kernels/cpu/linear/linear_kernels.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t most_in_order = 4;  // tokens

template <int rows>
HELIX_INLINE_AVX512 void accumulate(const BF16* x, __m512i w0, __m512i w1, __m512 (&c)[8][2]) {
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    int pair;
    std::memcpy(&pair, x + r * packing::block_inputs, sizeof pair);
    const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
    c[r][0] = _mm512_dpbf16_ps(c[r][0], a, reinterpret_cast<__m512bh>(w0));
    c[r][1] = _mm512_dpbf16_ps(c[r][1], a, reinterpret_cast<__m512bh>(w1));
  }
}

template <int rows>
HELIX_INLINE_AVX512 void accumulate(const BF16* x, __m512i w, __m512 (&c)[rows]) {
#pragma GCC unroll 4
  for (int r = 0; r < rows; ++r) {
    int pair;
    std::memcpy(&pair, x + r * packing::block_inputs, sizeof pair);
    c[r] = _mm512_dpbf16_ps(c[r], reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)),
                            reinterpret_cast<__m512bh>(w));
  }
}

// All tokens against one panel of n outputs in bf16.
template <int rows, bool prefetched, class Out>
HELIX_TARGET_AVX512 void multiply_in_order(const PackedRows& x, const std::byte* panel, std::int64_t n,
                                           float scale, Out* y, std::int64_t ldy) {
  constexpr int chains = rows == 1 ? 4 : 1;  // of sums, so that few do not wait for themselves
  // One token's products are done before AMD's prefetcher has the next line.
  constexpr std::int64_t ahead = prefetched ? prefetch_bytes : rows == 1 ? 1024 : 0;
  const BF16* a = x.tile<BF16>(0, 0);
  const std::int64_t a_step = x.row_stride() * packing::block_inputs;
  __m512 c[2][chains][rows];
  for (auto& tile : c)
    for (auto& chain : tile)
      for (auto& sum : chain) sum = _mm512_setzero_ps();
  for (std::int64_t b = 0; b < x.blocks; ++b, a += a_step)
#pragma GCC unroll 2
    for (int tile = 0; tile < 2; ++tile)
#pragma GCC unroll 16
      for (int p = 0; p < packing::tile_rows; ++p, panel += 64) {
        if constexpr (ahead > 0) prefetch(panel + ahead);
        accumulate<rows>(a + 2 * p, _mm512_loadu_si512(panel), c[tile][p % chains]);
      }
  const __m512 factor = _mm512_set1_ps(scale);
  for (int tile = 0; tile < 2; ++tile)
    for (int r = 0; r < rows; ++r) {
      __m512 sum = c[tile][0][r];
      for (int chain = 1; chain < chains; ++chain) sum = _mm512_add_ps(sum, c[tile][chain][r]);
      store_outputs(y + r * ldy + 16 * tile, _mm512_mul_ps(sum, factor), output_mask(n - 16 * tile));
    }
}

// Tokens [row, row + rows) against one panel of n outputs.
template <DType dtype, int rows, class Out>
HELIX_TARGET_AVX512 void multiply(const PackedRows& x, std::int64_t row, const std::byte* panel,
                                  std::int64_t n, float scale, Out* y, std::int64_t ldy) {
  constexpr std::int64_t tile_bytes = packing::tile_values * (dtype == DType::fp8 ? 1 : 2);
  const BF16* a = x.tile<BF16>(row / 16, 0) + row % 16 * packing::block_inputs;
  const std::int64_t a_step = x.row_stride() * packing::block_inputs;
  __m512 c[8][2];
  for (int r = 0; r < rows; ++r) c[r][0] = c[r][1] = _mm512_setzero_ps();
  [[maybe_unused]] const Fp8Decoder decode;
  for (std::int64_t b = 0; b < x.blocks; ++b, a += a_step, panel += 2 * tile_bytes) {
    constexpr int step = dtype == DType::fp8 ? 2 : 1;  // rows in a line
    for (int p = 0; p < packing::tile_rows; p += step) {
      const std::byte* line0 = panel + 64 * (p / step);
      const std::byte* line1 = line0 + tile_bytes;
      if (row == 0) {
        prefetch(line0 + prefetch_bytes);
        prefetch(line1 + prefetch_bytes);
      }
      if constexpr (dtype == DType::fp8) {
        __m512i w00, w01, w10, w11;
        decode(line0, w00, w01);
        decode(line1, w10, w11);
        accumulate<rows>(a + 2 * p, w00, w10, c);
        accumulate<rows>(a + 2 * p + 2, w01, w11, c);
      } else {
        accumulate<rows>(a + 2 * p, _mm512_loadu_si512(line0), _mm512_loadu_si512(line1), c);
      }
    }
  }
  const __m512 factor = _mm512_set1_ps(scale);
  for (int r = 0; r < rows; ++r) {
    store_outputs(y + (row + r) * ldy, _mm512_mul_ps(c[r][0], factor), output_mask(n));
    store_outputs(y + (row + r) * ldy + 16, _mm512_mul_ps(c[r][1], factor), output_mask(n - 16));
  }
}

template <DType dtype, class Out>
void product(const PanelProduct<Out>& p) {
  using Multiply =
      void (*)(const PackedRows&, std::int64_t, const std::byte*, std::int64_t, float, Out*, std::int64_t);
  constexpr Multiply multiply_rows[] = {
      multiply<dtype, 1, Out>, multiply<dtype, 2, Out>, multiply<dtype, 3, Out>, multiply<dtype, 4, Out>,
      multiply<dtype, 5, Out>, multiply<dtype, 6, Out>, multiply<dtype, 7, Out>, multiply<dtype, 8, Out>};
  const std::int64_t panel_bytes = p.x.blocks * packing::panel_bytes(packing::block_inputs, dtype);
  const std::byte* panel = p.weights;
  for (std::int64_t n0 = 0; n0 < p.n; n0 += packing::panel_outputs, panel += panel_bytes)
    for (std::int64_t row = 0; row < p.x.m; row += 8)
      multiply_rows[std::min<std::int64_t>(8, p.x.m - row) - 1](p.x, row, panel, p.n - n0, p.scale, p.y + n0,
                                                                p.ldy);
}

template <bool prefetched, class Out>
void product_in_order(const PanelProduct<Out>& p) {
  using Multiply = void (*)(const PackedRows&, const std::byte*, std::int64_t, float, Out*, std::int64_t);
  constexpr Multiply multiply_rows[most_in_order] = {
      multiply_in_order<1, prefetched, Out>, multiply_in_order<2, prefetched, Out>,
      multiply_in_order<3, prefetched, Out>, multiply_in_order<4, prefetched, Out>};
  const std::int64_t panel_bytes = p.x.blocks * packing::panel_bytes(packing::block_inputs, DType::bf16);
  const std::byte* panel = p.weights;
  for (std::int64_t n0 = 0; n0 < p.n; n0 += packing::panel_outputs, panel += panel_bytes)
    multiply_rows[p.x.m - 1](p.x, panel, p.n - n0, p.scale, p.y + n0, p.ldy);
}

}  // namespace

template <class Out>
void product_avx512(const PanelProduct<Out>& p) {
  static const bool follows_streams = __builtin_cpu_is("amd");
  if (p.dtype == DType::fp8)
    product<DType::fp8>(p);
  else if (p.x.m > most_in_order)
    product<DType::bf16>(p);
  else
    follows_streams ? product_in_order<false>(p) : product_in_order<true>(p);
}
template void product_avx512(const PanelProduct<float>&);
template void product_avx512(const PanelProduct<BF16>&);

}  // namespace helix::cpu
#endif
