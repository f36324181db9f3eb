// DecodeOps::kv_append and kv_fill_history (kernels/ops/ops.hpp) on a GPU. One thread writes the 16 bytes of a
// token's row in a tile: 8 dims in bf16, 16 in fp8, 32 in NVFP4, where it makes the scales too. Reads 2 bytes
// a value (append) or none (history), writes the cache's 2, 1 or 0.5625.
#pragma once

#include "kernels/cuda/attention/kv_layout.cuh"
#include "kernels/cuda/device/device.cuh"
#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/ops/tensor_ids.hpp"

namespace helix::cuda {

inline constexpr int kKvWriteThreads = 128;

/// Stores `values(i)` for the dims [dim, dim + chunk_dims) of a slot of a part.
template <DType dtype, typename Values>
HELIX_DEVICE void store_row(Global<std::byte> part, std::int64_t dims, int slot, std::int64_t dim,
                            const Values& values) {
  constexpr int per_unit = values_per_unit(dtype), bits = 16 / per_unit;
  const auto tile = part + KvLayout::tile_offset(dtype, dims, slot, dim);
  const int chunk = static_cast<int>(dim % kTileDims) / chunk_dims(dtype), token = slot % kTileTokens;

  FP8 scale[2];
  if constexpr (dtype == DType::nvfp4) {
    for (int block = 0; block < 2; ++block) {
      float largest = 0.0f;
      for (int i = 0; i < kNvfp4Block; ++i) largest = fmaxf(largest, fabsf(values(block * kNvfp4Block + i)));
      scale[block] = nvfp4_scale(largest);
      const auto scales = tile + (tile_value_bytes(dtype) + (chunk * 2 + block) * kTileTokens);
      scales.template as<std::uint8_t>()[token] = scale[block].bits;
    }
  }
  const auto encode = [&](int i) -> unsigned {
    if constexpr (dtype == DType::bf16) {
      return to_bf16(values(i)).bits;
    } else if constexpr (dtype == DType::fp8) {
      return to_fp8(values(i)).bits;
    } else {
      return to_nvfp4(values(i), scale[i / kNvfp4Block]);
    }
  };
  Vec<unsigned, 4> row{};
  HELIX_UNROLL for (int i = 0; i < 8 * per_unit; ++i) row[i % 8 / 2] |= encode(i)
                                                                        << (i % 2 * 16 + i / 8 * bits);
  (tile + (chunk * kTileTokens + token) * 16).template as<Vec<unsigned, 4>>()[0] = row;
}

/// Which 16 bytes a thread writes: of `tokens` slots, each with `kv_heads` heads' K and V rows.
struct RowPiece {
  std::int64_t token;
  int head;
  bool is_v;
  std::int64_t dim;

  HELIX_DEVICE RowPiece(const KvLayout& layout, std::int64_t index) {
    const std::int64_t dims = layout.k_dims + (layout.mla ? 0 : layout.v_dims);
    const std::int64_t pieces = dims / chunk_dims(layout.dtype);
    dim = index % pieces * chunk_dims(layout.dtype);
    head = static_cast<int>(index / pieces % layout.kv_heads);
    token = index / pieces / layout.kv_heads;
    is_v = dim >= layout.k_dims;
    if (is_v) dim -= layout.k_dims;
  }
  static std::int64_t per_token(const KvShape& shape) {
    const std::int64_t dims = shape.head_dim + (shape.kind == AttentionKind::mla ? 0 : shape.v_dim);
    return dims / chunk_dims(shape.dtype) * shape.kv_heads;
  }
};

HELIX_DEVICE Global<std::byte> part_of(const KvView& cache, const KvLayout& layout, std::int64_t request,
                                       std::int64_t token, const RowPiece& piece) {
  const Global<const std::int32_t> table(cache.page_table);
  const std::int64_t page = table[request * cache.max_pages + token / layout.page_tokens];
  return Global<std::byte>(cache.pages) +
         (page * static_cast<std::int64_t>(cache.page_bytes) + piece.head * layout.head_bytes() +
          (piece.is_v ? layout.k_bytes : 0));
}

/// Our own pages, in tiles.
struct TiledPages {
  template <DType dtype, typename Values>
  HELIX_DEVICE static void store(const KvView& cache, std::int64_t request, std::int64_t token,
                                 const RowPiece& piece, const Values& values) {
    const KvLayout layout(cache.shape);
    store_row<dtype>(part_of(cache, layout, request, token, piece),
                     piece.is_v ? layout.v_dims : layout.k_dims, static_cast<int>(token % layout.page_tokens),
                     piece.dim, values);
  }
};

/// Those that kernels of other makers read.
struct UntiledPages {
  template <DType dtype, typename Values>
  HELIX_DEVICE static void store(const KvView& cache, std::int64_t request, std::int64_t token,
                                 const RowPiece& piece, const Values& values) {
    const PlainPages pages(cache.shape);
    const Global<const std::int32_t> table(cache.page_table);
    const std::int64_t page = table[request * cache.max_pages + token / pages.tokens];
    constexpr int per_word = dtype == DType::bf16 ? 2 : 4;
    Vec<unsigned, 4> row{};
    HELIX_UNROLL for (int i = 0; i < 4 * per_word; ++i) {
      const unsigned value = dtype == DType::bf16 ? to_bf16(values(i)).bits : to_fp8(values(i)).bits;
      row[i / per_word] |= value << (i % per_word * (32 / per_word));
    }
    const std::int64_t at = page * static_cast<std::int64_t>(cache.page_bytes) +
                            pages.offset(piece.is_v, piece.head, token % pages.tokens, piece.dim);
    (Global<std::byte>(cache.pages) + at).template as<Vec<unsigned, 4>>()[0] = row;
  }
};

struct KvRows {
  Global<const BF16> k, v;
  std::int64_t ldk, ldv;
};

template <DType dtype, class Pages = TiledPages>
HELIX_KERNEL void kv_append_rows(KvView cache, std::int64_t batch, Global<const std::int64_t> slots,
                                 KvRows rows) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kKvWriteThreads + threadIdx.x;
  const KvLayout layout(cache.shape);
  const RowPiece piece(layout, index);
  const std::int64_t of_step = piece.token;
  if (of_step >= batch * cache.query_tokens) return;
  const std::int64_t slot = slots[of_step], request = of_step / cache.query_tokens;
  if (slot < 0) return;
  const std::int64_t dims = piece.is_v ? layout.v_dims : layout.k_dims;
  const auto row = (piece.is_v ? rows.v + of_step * rows.ldv : rows.k + of_step * rows.ldk) +
                   (piece.head * dims + piece.dim);
  Pages::template store<dtype>(cache, request, slot, piece, [&](int i) -> float { return to_float(row[i]); });
}

template <DType dtype, class Pages = TiledPages>
HELIX_KERNEL void kv_history_rows(KvView cache, HistorySlice history) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kKvWriteThreads + threadIdx.x;
  const KvLayout layout(cache.shape);
  const RowPiece piece(layout, index);
  const std::int64_t request = piece.token / history.tokens, token = piece.token % history.tokens;
  if (request >= history.requests) return;
  const std::int64_t head = layout.mla ? 0 : history.first_kv_head + piece.head;
  const auto tensor = piece.is_v ? Tensor::history_v : history.keys;
  const std::uint64_t key = synthetic::tensor_key(
      history.seed, static_cast<std::uint32_t>(tensor), static_cast<std::uint32_t>(history.layer),
      static_cast<std::uint32_t>((history.first_request + request) * history.global_kv_heads + head));
  const std::uint32_t row = synthetic::row_key(key, history.first_position + token);
  Pages::template store<dtype>(cache, request, token, piece, [&](int i) -> float {
    return synthetic::unit_value(row, static_cast<std::uint32_t>(piece.dim + i));
  });
}

/// Of the kernels for tiles of three types and for plain pages of two, the one for this cache.
template <typename Kernel>
Kernel* for_pages(const KvShape& shape, Kernel* bf16, Kernel* fp8, Kernel* nvfp4, Kernel* plain_bf16,
                  Kernel* plain_fp8) {
  const bool plain = shape.kernels != KernelMaker::own;
  if (shape.dtype == DType::bf16) return plain ? plain_bf16 : bf16;
  if (shape.dtype == DType::fp8) return plain ? plain_fp8 : fp8;
  return nvfp4;
}

/// Of the three kernels, the one for the cache's type.
template <typename Kernel>
Kernel* of_dtype(DType dtype, Kernel* bf16, Kernel* fp8, Kernel* nvfp4) {
  return dtype == DType::bf16 ? bf16 : dtype == DType::fp8 ? fp8 : nvfp4;
}

inline unsigned write_blocks(std::int64_t pieces) {
  return static_cast<unsigned>((pieces + kKvWriteThreads - 1) / kKvWriteThreads);
}

inline void kv_append(Stream stream, const KvView& cache, std::int64_t batch, const std::int64_t* slots,
                      const BF16* k, std::int64_t ldk, const BF16* v, std::int64_t ldv) {
  const auto kernel = for_pages(cache.shape, kv_append_rows<DType::bf16>, kv_append_rows<DType::fp8>,
                                kv_append_rows<DType::nvfp4>, kv_append_rows<DType::bf16, UntiledPages>,
                                kv_append_rows<DType::fp8, UntiledPages>);
  launch(kernel, write_blocks(batch * cache.query_tokens * RowPiece::per_token(cache.shape)), kKvWriteThreads,
         0, stream, cache, batch, slots, KvRows{k, v, ldk, ldv});
}

inline void kv_fill_history(Stream stream, const KvView& cache, const HistorySlice& history) {
  const std::int64_t tokens = history.requests * history.tokens;
  if (tokens == 0) return;
  const auto kernel = for_pages(cache.shape, kv_history_rows<DType::bf16>, kv_history_rows<DType::fp8>,
                                kv_history_rows<DType::nvfp4>, kv_history_rows<DType::bf16, UntiledPages>,
                                kv_history_rows<DType::fp8, UntiledPages>);
  launch(kernel, write_blocks(tokens * RowPiece::per_token(cache.shape)), kKvWriteThreads, 0, stream, cache,
         history);
}

}  // namespace helix::cuda
