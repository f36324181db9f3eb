// One rank's paged KV cache: every layer's pages, the page table and the local lengths of each request.
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
  /// In `memory` (see ensure()).
  KvCache(Backend& backend, const CacheRoom& room, std::unique_ptr<Buffer>& memory);

  /// Bytes the constructor takes.
  static std::size_t bytes_needed(const Backend& backend, const CacheRoom& room);

  /// Writes the synthetic history of all layers, the first of which is layer `first_layer` of the model; the
  /// cached requests are these of the batch, in order. All memory behind it is NaN, so that a kernel that
  /// reads too far is found out.
  void fill_history(std::uint64_t seed, std::int64_t first_layer, std::span<const Range> requests,
                    std::int64_t first_kv_head, std::int64_t global_kv_heads,
                    Tensor keys = Tensor::history_k);
  /// Forgets the appended tokens.
  void rewind();

  std::int64_t tokens_per_request() const { return room_.history.size() + room_.growth; }
  KvView layer(std::int64_t layer) const;
  std::int64_t* lengths() { return arrays_.lengths; }
  std::int64_t* slots() { return arrays_.slots; }

 private:
  struct Arrays {
    Arrays(Carver& carver, const CacheRoom& room, std::size_t page_bytes);

    std::int64_t *lengths, *slots;  // [requests]
    std::int32_t* page_table;       // [requests, pages_per_request + 1], the last entry invalid
    std::byte* pages;               // [layers, pages_per_request, requests]
  };
  static Arrays carve(Backend& backend, const CacheRoom& room, std::unique_ptr<Buffer>& memory);
  void poison_last_page(const KvView& view);

  Backend& backend_;
  CacheRoom room_;
  std::size_t page_bytes_;
  Arrays arrays_;
};

}  // namespace helix
