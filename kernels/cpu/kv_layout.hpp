// Where a value of the KV cache lies in its page.
//
// GQA: for each KV head its K part, then its V part, so that one head of one page is one contiguous stretch.
// Both are stored as the B operands of the two matrix products S = Q K^T and O = P V, in which a 32-bit word
// holds neighbours along the summed dimension; this is what AMX tiles want (bf16 pairs) and needs no
// horizontal sums in vector code:
//   bf16: K [head_dim / 2][tokens][2]   V [tokens / 2][v_dim][2]
//   fp8:  K [head_dim / 4][tokens][4]   V [tokens / 4][v_dim][4]
// `tokens` is the page's tokens rounded up to 16, a tile's width. The four fp8 values of a word are in the
// order 0, 2, 1, 3: the even bytes of a vector widen to one row of pairs, the odd bytes to the next.
//
// MLA: one row of head_dim values a token, [tokens][head_dim], which is the A operand of S^T = K Q^T, and V
// is its head. fp8 rows are made of blocks of 64 values (the last may be of 32) in which the even bytes hold
// the first half and the odd bytes the second.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/ops.hpp"
#include "roofline/error.hpp"

namespace helix::cpu {

struct KvLayout {
  bool mla = false;
  bool fp8 = false;
  std::int64_t kv_heads = 0, head_dim = 0, v_dim = 0;
  std::int64_t page_tokens = 0;    // tokens a page holds
  std::int64_t padded_tokens = 0;  // slots a page has: page_tokens rounded up to 16
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
    if (shape.dtype != DType::bf16 && !fp8)
      throw UsageError("the CPU's KV cache holds bf16 or fp8, not " + std::string(name(shape.dtype)));
    if (page_tokens < 1) throw UsageError("a KV page needs at least one token");
    const std::int64_t step = mla ? 32 : 16;
    if (kv_heads < 1 || head_dim < step || head_dim % step != 0 || v_dim < step || v_dim % step != 0)
      throw UsageError("K and V rows of the KV cache must be multiples of " + std::to_string(step) +
                       " wide, not " + std::to_string(head_dim) + " and " + std::to_string(v_dim));
    if (mla && (kv_heads != 1 || v_dim > head_dim))
      throw UsageError("an MLA cache has one head and a V that is part of its K");
    k_bytes = static_cast<std::size_t>(padded_tokens * head_dim) * value_bytes;
    v_bytes = mla ? 0 : static_cast<std::size_t>(padded_tokens * v_dim) * value_bytes;
  }

  std::size_t head_bytes() const { return k_bytes + v_bytes; }
  std::size_t page_bytes() const { return head_bytes() * static_cast<std::size_t>(kv_heads); }
  std::int64_t pages(std::int64_t tokens) const { return (tokens + page_tokens - 1) / page_tokens; }

  /// Byte of value (slot, dim) in a head's K part; MLA: in the page.
  std::size_t k_offset(std::int64_t slot, std::int64_t dim) const {
    if (mla) return static_cast<std::size_t>(slot * head_dim) * value_bytes + row_offset(dim);
    return word_offset(dim, slot, padded_tokens);
  }
  /// Byte of value (slot, dim) in a head's V part; GQA only.
  std::size_t v_offset(std::int64_t slot, std::int64_t dim) const { return word_offset(slot, dim, v_dim); }

 private:
  // [summed / per_word][kept][per_word], per_word values of the summed dimension in a 32-bit word.
  std::size_t word_offset(std::int64_t summed, std::int64_t kept, std::int64_t kept_size) const {
    constexpr std::int64_t quad_byte[4] = {0, 2, 1, 3};
    if (!fp8) return static_cast<std::size_t>(((summed / 2) * kept_size + kept) * 4 + summed % 2 * 2);
    return static_cast<std::size_t>(((summed / 4) * kept_size + kept) * 4 + quad_byte[summed % 4]);
  }
  std::size_t row_offset(std::int64_t dim) const {
    if (!fp8) return static_cast<std::size_t>(dim) * 2;
    const std::int64_t block = dim / 64 * 64;
    const std::int64_t half = std::min<std::int64_t>(64, head_dim - block) / 2;
    const std::int64_t i = dim - block;
    return static_cast<std::size_t>(block + 2 * (i % half) + i / half);
  }
};

/// First byte of one head of one page; the page table is followed only here.
inline std::byte* head_of_page(const KvView& cache, const KvLayout& layout, std::int64_t request,
                               std::int64_t page, std::int64_t head) {
  const std::int64_t id = cache.page_table[request * cache.max_pages + page];
  return cache.pages + static_cast<std::size_t>(id) * cache.page_bytes +
         static_cast<std::size_t>(head) * layout.head_bytes();
}

}  // namespace helix::cpu
