// A paged KV cache of a rank: its layers' pages, the page table and the local lengths of each request. The layers of
// a model that keep the same tokens share one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/ops/backend.hpp"
#include "kernels/ops/memory.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

class KvCache {
 public:
  KvCache(Backend& backend, const CacheRoom& room, Carver& carver);
  /// One for each room, side by side in `memory` (see ensure()).
  static std::vector<KvCache> make(Backend& backend, std::span<const CacheRoom> rooms,
                                   std::unique_ptr<Buffer>& memory);
  /// Bytes that they take.
  static std::size_t bytes_needed(const Backend& backend, std::span<const CacheRoom> rooms);

  /// What history the cache has: its heads, and the cached requests, which are these of the batch in order.
  struct History {
    std::uint64_t seed = 0;
    std::vector<Range> requests{};
    std::int64_t first_kv_head = 0, global_kv_heads = 1;
    Tensor keys = Tensor::history_k;
  };
  /// Writes the synthetic history of all layers. All memory behind it is NaN, so that a kernel that reads too far is
  /// found out, or zero for those that do (KvView).
  void fill_history(History history);
  /// Back to the history alone. `replaced`: as many of its tokens, the first ones, may have been replaced, and are
  /// made anew.
  void rewind(std::int64_t replaced = 0);

  std::int64_t tokens_per_request() const { return room_.history.size() + room_.growth; }
  /// A layer of the model.
  KvView layer(std::int64_t layer) const;
  std::int64_t* lengths() { return arrays_.lengths; }
  std::int64_t* slots() { return arrays_.slots; }

 private:
  struct Arrays {
    Arrays(Carver& carver, const CacheRoom& room, std::size_t page_bytes);

    std::int64_t *lengths, *slots;  // [requests, query_tokens], of the step that runs
    std::int32_t* page_table;       // [requests, pages_per_request and some], behind them what KvView says
    std::byte* pages;               // [layers, pages_per_request, requests]
  };
  void write_history(const KvView& view, std::int64_t layer, std::int64_t tokens);
  void poison_last_page(KvView view);

  Backend& backend_;
  CacheRoom room_;
  History history_;
  std::size_t page_bytes_;
  Arrays arrays_;
};

}  // namespace helix
