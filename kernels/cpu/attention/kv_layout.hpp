// Where a value of the KV cache lies in its page.
//
// Everything is stored as the tiles that the two matrix products S = Q K^T and O = P V load: 16 rows of
// 64 bytes, 1 KiB of consecutive memory (rows further apart set off the hardware's stride prefetcher,
// which then fetches what nobody needs). GQA: for each KV head its K part, then its V part, as B
// operands, in which a 32-bit word holds neighbours along the summed dimension. This needs no horizontal
// sums in vector code either:
//   bf16: K [tokens / 16][head_dim / 2][16 tokens][2]   V [tokens / G][v_dim / 16][G / 2][16 columns][2]
//   fp8:  K [tokens / 16][head_dim / 4][4][2][4 tokens][2]
//                                                       V [tokens / G][v_dim / 16][G / 4][4][2][4 columns][2]
// `tokens` is the page's tokens rounded up to 16; G is 32 where that divides them, else 16. Of fp8, 64 bytes
// widen to two rows of bf16 pairs, one from the first and one from the second halves of 16 bytes, as unpacking
// instructions take them. Their bits: kv_fp8.hpp.
//
// MLA: a token has one row of head_dim values, and V is its head. Tiles of rows, A operands of S^T = K Q^T:
//   bf16: [tokens / 16][head_dim / 32][16 tokens][32]   fp8: [tokens / 16][head_dim / 64][16 tokens][64]
// The last fp8 tile may be 32 wide. The first halves of an fp8 row's 16 bytes hold the first half of its
// values, the second halves the second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/ops/ops.hpp"
#include "roofline/base/error.hpp"

namespace helix::cpu {

/// Why the CPU has no layout for such pages; empty if it has.
inline std::string why_no_layout(const KvShape& shape) {
  if (shape.kernels != KernelMaker::own)
    return "kernels of " + std::string(name(shape.kernels)) + " are a GPU's";
  if (shape.dtype != DType::bf16 && shape.dtype != DType::fp8)
    return "the CPU's KV cache holds bf16 or fp8, not " + std::string(name(shape.dtype));
  if (shape.tokens_per_page < 1) return "a KV page needs at least one token";
  const bool mla = shape.kind == AttentionKind::mla;
  const std::int64_t step = mla ? 32 : 16;
  const auto whole_steps = [&](std::int64_t dim) { return dim >= step && dim % step == 0; };
  if (shape.kv_heads < 1 || !whole_steps(shape.head_dim) || !whole_steps(shape.v_dim))
    return "K and V rows of the KV cache must be multiples of " + std::to_string(step) + " wide, not " +
           std::to_string(shape.head_dim) + " and " + std::to_string(shape.v_dim);
  if (mla && (shape.kv_heads != 1 || shape.v_dim > shape.head_dim))
    return "an MLA cache has one head and a V that is part of its K";
  return {};
}

struct KvLayout {
  bool mla = false;
  bool fp8 = false;
  std::int64_t kv_heads = 0, head_dim = 0, v_dim = 0;
  std::int64_t page_tokens = 0;    // tokens a page holds
  std::int64_t padded_tokens = 0;  // slots a page has: page_tokens rounded up to 16
  std::int64_t granule = 0;        // G, a power of two
  std::size_t value_bytes = 0;
  std::size_t k_bytes = 0, v_bytes = 0;  // one head's parts of one page

  explicit KvLayout(const KvShape& shape)
      : mla(shape.kind == AttentionKind::mla),
        fp8(shape.dtype == DType::fp8),
        kv_heads(shape.kv_heads),
        head_dim(shape.head_dim),
        v_dim(shape.v_dim),
        page_tokens(shape.tokens_per_page),
        padded_tokens((page_tokens + 15) / 16 * 16),
        value_bytes(fp8 ? 1 : 2) {
    if (const std::string reason = why_no_layout(shape); !reason.empty()) throw UsageError(reason);
    granule = padded_tokens % 32 == 0 ? 32 : 16;
    k_bytes = static_cast<std::size_t>(padded_tokens * head_dim) * value_bytes;
    v_bytes = mla ? 0 : static_cast<std::size_t>(padded_tokens * v_dim) * value_bytes;
  }

  std::size_t head_bytes() const { return k_bytes + v_bytes; }
  std::size_t page_bytes() const { return head_bytes() * static_cast<std::size_t>(kv_heads); }
  std::int64_t pages(std::int64_t tokens) const { return (tokens + page_tokens - 1) / page_tokens; }

  /// Byte of value (slot, dim) in a head's K part; MLA: in the page.
  std::size_t k_offset(std::int64_t slot, std::int64_t dim) const {
    const std::int64_t group = slot / 16 * 16 * head_dim, lane = slot % 16;
    if (!mla) return bytes(group) + pair_offset(dim, lane);
    const std::int64_t width = fp8 ? 64 : 32, tile = dim / width * width, i = dim - tile;
    if (!fp8) return bytes(group + tile * 16 + lane * width + i);
    const std::int64_t row = std::min(width, head_dim - tile), half = row / 2;
    return bytes(group + tile * 16 + lane * row + i % half / 8 * 16 + i / half * 8 + i % 8);
  }
  /// Byte of value (slot, dim) in a head's V part; GQA only.
  std::size_t v_offset(std::int64_t slot, std::int64_t dim) const {
    return bytes(slot / granule * granule * v_dim + dim / 16 * 16 * granule) +
           pair_offset(slot % granule, dim % 16);
  }

 private:
  std::size_t bytes(std::int64_t values) const { return static_cast<std::size_t>(values) * value_bytes; }
  // bf16: [summed / 2][16 lanes][2], fp8: [summed / 4][4][2][4 lanes][2], pairs being of the summed dimension.
  std::size_t pair_offset(std::int64_t summed, std::int64_t lane) const {
    const std::int64_t pair = summed / 2;
    if (!fp8) return static_cast<std::size_t>(64 * pair + 4 * lane + summed % 2 * 2);
    return static_cast<std::size_t>(pair / 2 * 64 + lane / 4 * 16 + pair % 2 * 8 + lane % 4 * 2 + summed % 2);
  }
};

/// Local tokens that all rows of a request attend, and those that its last row does.
inline std::int64_t shared_tokens(const KvView& cache, std::int64_t request) {
  return cache.lengths[request * cache.query_tokens];
}
inline std::int64_t all_tokens(const KvView& cache, std::int64_t request) {
  return cache.lengths[(request + 1) * cache.query_tokens - 1];
}

/// First byte of one head of one page; the page table is followed only here.
inline std::byte* head_of_page(const KvView& cache, const KvLayout& layout, std::int64_t request,
                               std::int64_t page, std::int64_t head) {
  const std::int64_t id = cache.page_table[request * cache.max_pages + page];
  return cache.pages + static_cast<std::size_t>(id) * cache.page_bytes +
         static_cast<std::size_t>(head) * layout.head_bytes();
}

}  // namespace helix::cpu
