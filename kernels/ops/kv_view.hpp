// A rank's cache as the ops see it: its pages, what they hold before decoding, and which tokens it keeps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/tensor_ids.hpp"
#include "roofline/step/shapes.hpp"

namespace helix {

/// One layer of a rank's paged cache. Local token t of request b lies in page page_table[b * max_pages + t /
/// tokens_per_page], slot t % tokens_per_page; entries past a request's last page are invalid and must not be
/// followed, and slots past its length hold garbage (tests: NaN). Kernels of other makers read whole tiles, and multiply what
/// lies behind the end by zero: for them each entry names a page, and each slot holds numbers. A step asks for query_tokens tokens of each
/// request, in rows [batch, query_tokens]: row j of a request attends the first lengths[b * query_tokens + j] local
/// tokens, no fewer than row j - 1 does and query_tokens - 1 more than row 0 at most.
struct KvView {
  KvShape shape;
  std::byte* pages = nullptr;
  std::size_t page_bytes = 0;  // kv_page_bytes(shape)
  const std::int32_t* page_table = nullptr;
  std::int64_t max_pages = 0;
  const std::int64_t* lengths = nullptr;  // [batch, query_tokens] local tokens, may be 0
  std::int64_t query_tokens = 1;
  std::int64_t page_count = 0, most_tokens = 0;  // in all, and of a request: for kernels of other makers

  KvView from_request(std::int64_t first) const {
    KvView v = *this;
    v.page_table += first * max_pages;
    v.lengths += first * query_tokens;
    return v;
  }
};

/// Whose turn it is to keep a decoded token: the ranks that share a cache have blocks of them in turn, and this one
/// holds `history` tokens of each request before them. A step may begin anywhere in a turn and last into later ones.
struct AppendTurns {
  std::int64_t first = 0;  // the turn of decoded token 0
  std::int64_t block = 1;
  std::int64_t ranks = 1, rank = 0;
  std::int64_t context = 0, history = 0;  // tokens before the decoded ones, of all ranks and of this one

  constexpr bool mine(std::int64_t token) const { return (first + token) / block % ranks == rank; }
  /// Of the first `tokens` decoded ones, those that this rank keeps.
  constexpr std::int64_t kept(std::int64_t tokens) const {
    return kept_until(first + tokens) - kept_until(first);
  }

 private:
  constexpr std::int64_t kept_until(std::int64_t turn) const {
    const std::int64_t round = block * ranks, rest = turn % round - rank * block;
    return turn / round * block + (rest < 0 ? 0 : rest < block ? rest : block);
  }
};

/// Where requests stand in their decoding; the arrays are of the device.
struct StepState {
  std::int64_t* decoded = nullptr;         // [batch] tokens before those of the step
  const std::int64_t* accepted = nullptr;  // [batch] of the last step's
  std::int64_t *positions = nullptr, *slots = nullptr, *lengths = nullptr;  // [batch, query_tokens]
};

/// Which synthetic history a shard holds: local token i of request b is global position first_position +
/// i. GQA K rows are tensor_key(seed, history_k, layer, request * global_kv_heads + head), V rows
/// history_v; MLA rows are history_k with head 0. Row = global position. Values are unit_value, rounded to
/// the cache's dtype. `keys`: history_index_k for those of an indexer.
struct HistorySlice {
  Tensor keys = Tensor::history_k;
  std::uint64_t seed = 0;
  std::int64_t layer = 0;
  std::int64_t first_request = 0, requests = 0;
  std::int64_t first_kv_head = 0, global_kv_heads = 1;
  std::int64_t first_position = 0, tokens = 0;
};

}  // namespace helix
