// Inside of the matrix products: packed activations and one kernel per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/linear/packing.hpp"
#include "kernels/cpu/machine/amx.hpp"
#include "kernels/ops/bf16.hpp"
#include "roofline/base/dtype.hpp"

namespace helix::cpu {

/// m rows of activations, padded with zeros to whole blocks of inputs, in row tiles of up to 16: as values
/// [row tile][block][row_stride()][32], so that a tile is an AMX operand and reads are sequential. The values
/// are bf16 or, for instruction sets without bf16 products, float.
struct PackedRows {
  const void* data = nullptr;
  std::int64_t m = 0, blocks = 0;

  static constexpr std::int64_t tile_rows = 16;
  std::int64_t row_tiles() const { return (m + tile_rows - 1) / tile_rows; }
  /// Fewer than 16 only where there is one row tile. Rows past m of the last tile hold zeros.
  std::int64_t row_stride() const { return m < tile_rows ? m : tile_rows; }
  std::int64_t values() const { return row_tiles() * blocks * row_stride() * packing::block_inputs; }

  template <class T>
  const T* tile(std::int64_t row_tile, std::int64_t block) const {
    return static_cast<const T*>(data) + (row_tile * blocks + block) * row_stride() * packing::block_inputs;
  }
};

/// y[row, 0:n] = scale x W^T for the `n` outputs that start at panel `weights`.
template <class Out>
struct PanelProduct {
  PackedRows x;
  const std::byte* weights;
  DType dtype;
  std::int64_t n;
  Out* y;
  std::int64_t ldy;
  float scale;
};

/// Distance of the software prefetch. Reading linearly with prefetch to L2 at 4 to 16 KiB runs at the same
/// speed as the best interleaved streams; going on past the end of a matrix warms up the next one.
inline constexpr std::int64_t prefetch_bytes = 8192;

template <class Out>
void product_highway(const PanelProduct<Out>& p);  // x: float
#if defined(__x86_64__)
template <class Out>
void product_avx512(const PanelProduct<Out>& p);  // x: bf16
#endif
#if HELIX_HAVE_AMX
template <class Out>
void product_amx(const PanelProduct<Out>& p);  // x: bf16
#endif

}  // namespace helix::cpu
