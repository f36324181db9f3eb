// Where a value of the KV cache lies in its page: in the order in which the tensor cores'
// operands are loaded.
//
// The unit is the tile of 16 tokens by 64 dims, consecutive in memory, 2048 bytes in bf16, 1024 in fp8 and
// 576 in NVFP4. A tile is rows of 16 bytes, one token each, [64 / chunk][16 tokens][16 bytes], a chunk being
// the 8, 16 or 32 dims that 16 bytes hold: 512 consecutive bytes are four 8x8 matrices for one ldmatrix
// without bank conflicts, as they are for the K operand (16 tokens x 16 dims) and transposed for that of V
// (16 dims x 16 tokens); copies from global to shared memory are linear. Of a chunk's dims d, each 16-bit
// unit u of the row holds d = u, u + 8, u + 16 ... (lowest bits first), so that unpacking the unit's values
// gives the operands' registers in their order, transposed or not. NVFP4: the scales follow, [4 blocks of 16
// dims][16 tokens].
//
// GQA: for each KV head its K part, then its V part: [token tiles of the page][dims / 64] tiles.
// MLA: one such part of head_dim-wide rows, of which V is the head. A page's tokens are rounded up to tiles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/ops/ops.hpp"
#include "roofline/base/error.hpp"

namespace helix::cuda {

inline constexpr int kTileTokens = 16, kTileDims = 64;

/// Values in 16 bits.
constexpr int values_per_unit(DType dtype) {
  return dtype == DType::bf16 ? 1 : dtype == DType::fp8 ? 2 : 4;
}
/// Dims in 16 bytes.
constexpr int chunk_dims(DType dtype) {
  return 8 * values_per_unit(dtype);
}
/// Of a tile's values, without NVFP4's scales.
constexpr int tile_value_bytes(DType dtype) {
  return kTileTokens * kTileDims * 2 / values_per_unit(dtype);
}
constexpr int tile_bytes(DType dtype) {
  return tile_value_bytes(dtype) + (dtype == DType::nvfp4 ? kTileTokens * kTileDims / 16 : 0);
}

struct KvLayout {
  bool mla;
  DType dtype;
  std::int64_t kv_heads, k_dims, v_dims;
  int page_tokens, page_tiles;
  std::int64_t k_bytes, v_bytes;  // one head's parts of one page

  constexpr explicit KvLayout(const KvShape& shape)
      : mla(shape.kind == AttentionKind::mla),
        dtype(shape.dtype),
        kv_heads(shape.kv_heads),
        k_dims(shape.head_dim),
        v_dims(shape.v_dim),
        page_tokens(shape.tokens_per_page),
        page_tiles((page_tokens + kTileTokens - 1) / kTileTokens),
        k_bytes(page_tiles * (k_dims / kTileDims) * tile_bytes(dtype)),
        v_bytes(mla ? 0 : page_tiles * (v_dims / kTileDims) * tile_bytes(dtype)) {}

  constexpr std::int64_t head_bytes() const { return k_bytes + v_bytes; }
  constexpr std::int64_t page_bytes() const { return kv_heads * head_bytes(); }

  /// First byte of the tile with this slot and dim, in a K part (dims = k_dims) or a V part.
  static constexpr std::int64_t tile_offset(DType dtype, std::int64_t dims, int slot, std::int64_t dim) {
    return (slot / kTileTokens * (dims / kTileDims) + dim / kTileDims) * tile_bytes(dtype);
  }
};

/// Pages as kernels of other makers read them: K [kv_heads, tokens, head_dim], behind it V [kv_heads, tokens, v_dim], of MLA
/// K alone.
struct PlainPages {
  std::int64_t kv_heads, tokens, k_dims, v_dims;
  int value_bytes;

  explicit constexpr PlainPages(const KvShape& shape)
      : kv_heads(shape.kv_heads),
        tokens(shape.tokens_per_page),
        k_dims(shape.head_dim),
        v_dims(shape.kind == AttentionKind::mla ? 0 : shape.v_dim),
        value_bytes(shape.dtype == DType::bf16 ? 2 : 1) {}

  constexpr std::int64_t page_bytes() const { return kv_heads * tokens * (k_dims + v_dims) * value_bytes; }
  /// First byte of a value of K or V.
  constexpr std::int64_t offset(bool is_v, std::int64_t head, std::int64_t slot, std::int64_t dim) const {
    const std::int64_t dims = is_v ? v_dims : k_dims, first = is_v ? kv_heads * tokens * k_dims : 0;
    return (first + (head * tokens + slot) * dims + dim) * value_bytes;
  }
};

/// An indexer's keys, which are scored and not attended.
inline bool holds_index_keys(const KvShape& shape) {
  return shape.kind == AttentionKind::mla && shape.head_dim == shape.v_dim;
}

/// Why there are no kernels for such pages; empty if there are.
inline std::string why_no_layout(const KvShape& shape) {
  const bool mla = shape.kind == AttentionKind::mla;
  if (shape.dtype != DType::bf16 && shape.dtype != DType::fp8 && shape.dtype != DType::nvfp4)
    return "the KV cache on a GPU holds bf16, fp8 or nvfp4, not " + std::string(name(shape.dtype));
  if (shape.kernels != KernelMaker::own && shape.dtype == DType::nvfp4)
    return "kernels of other makers read bf16 and fp8 here, not nvfp4";
  if (shape.tokens_per_page < 1) return "a KV page needs at least one token";
  const bool index_keys = holds_index_keys(shape);
  if (index_keys && (shape.kv_heads != 1 || (shape.head_dim != 64 && shape.head_dim != 128)))
    return "an indexer's keys on a GPU have 64 or 128 values, not " + std::to_string(shape.head_dim);
  if (mla && !index_keys && (shape.kv_heads != 1 || shape.head_dim != 576 || shape.v_dim != 512))
    return "MLA on a GPU has one cache row of 576 values a token, 512 of them the latent";
  if (!mla && ((shape.head_dim != 64 && shape.head_dim != 128 && shape.head_dim != 256) ||
               shape.v_dim != shape.head_dim || shape.kv_heads < 1))
    return "GQA on a GPU has K and V heads of 64, 128 or 256 values, not " + std::to_string(shape.head_dim) +
           " and " + std::to_string(shape.v_dim);
  return {};
}

inline std::size_t kv_page_bytes(const KvShape& shape) {
  if (const std::string reason = why_no_layout(shape); !reason.empty()) throw UsageError(reason);
  if (shape.kernels != KernelMaker::own) return static_cast<std::size_t>(PlainPages(shape).page_bytes());
  return static_cast<std::size_t>(KvLayout(shape).page_bytes());
}

/// The tiles of one request, in the order of its tokens. Only the last one of a page may be part empty.
struct KvTiles {
  int tokens;
  int page_tokens, page_tiles;

  constexpr int count() const {
    return tokens / page_tokens * page_tiles + (tokens % page_tokens + kTileTokens - 1) / kTileTokens;
  }

  struct Place {
    int page, in_page;
    int valid;  // tokens that the tile holds; not above 0: past the end
  };
  constexpr Place place(int tile) const {
    const int page = tile / page_tiles;
    return place(page, tile - page * page_tiles);
  }
  constexpr Place place(int page, int in_page) const {
    const int left = tokens - page * page_tokens, of_page = left < page_tokens ? left : page_tokens;
    const int rest = of_page - in_page * kTileTokens;
    return {page, in_page, rest < kTileTokens ? rest : kTileTokens};
  }
};

/// Every `Step`-th tile of a request from the first on, without a division for each.
template <int Step>
class KvTileWalk {
 public:
  constexpr KvTileWalk(const KvTiles& tiles, int first)
      : tiles_(tiles), page_(first / tiles.page_tiles), in_page_(first % tiles.page_tiles) {}

  constexpr KvTiles::Place place() const { return tiles_.place(page_, in_page_); }
  constexpr void next() {
    in_page_ += Step;
    while (in_page_ >= tiles_.page_tiles) {  // several times only where pages are smaller than a step
      in_page_ -= tiles_.page_tiles;
      ++page_;
    }
  }

 private:
  KvTiles tiles_;
  int page_, in_page_;
};

}  // namespace helix::cuda
