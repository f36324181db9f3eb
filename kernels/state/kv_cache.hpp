// One rank's paged KV cache: every layer's pages, the page table and the local lengths of each request.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/ops/backend.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

/// Tokens of each request that a rank holds before decoding starts: global positions [first, first + tokens).
struct LocalHistory {
  std::int64_t first_position = 0;
  std::int64_t tokens = 0;
};

/// The cache of the rank at these places.
KvShape cached_shape(const ModelSpec& model, const Sharding& sharding, const RankCoords& at,
                     const DecodeShape& shape);

class KvCache {
 public:
  /// Room for history.tokens + growth tokens of each request in each layer, in `memory` (see ensure()).
  KvCache(Backend& backend, const KvShape& shape, std::int64_t layers, std::int64_t batch,
          const LocalHistory& history, std::int64_t growth, std::unique_ptr<Buffer>& memory);

  /// Bytes the constructor takes.
  static std::size_t bytes_needed(Backend& backend, const KvShape& shape, std::int64_t layers,
                                  std::int64_t batch, std::int64_t tokens);

  /// Writes the synthetic history of all layers, the first of which is layer `first_layer` of the model; the
  /// cached requests are these of the batch, in order. All memory behind it is NaN, so that a kernel that
  /// reads too far is found out.
  void fill_history(std::uint64_t seed, std::int64_t first_layer, std::span<const Range> requests,
                    std::int64_t first_kv_head, std::int64_t global_kv_heads);
  /// Forgets the appended tokens.
  void rewind();

  KvView layer(std::int64_t layer) const;
  std::int64_t* lengths() { return lengths_; }
  std::int64_t* slots() { return slots_; }
  const LocalHistory& history() const { return history_; }

 private:
  void poison_last_page(const KvView& view);

  Backend& backend_;
  KvShape shape_;
  std::int64_t layers_, batch_, pages_per_request_;
  LocalHistory history_;
  std::size_t page_bytes_;
  std::byte* pages_ = nullptr;
  std::int32_t* page_table_ = nullptr;  // [batch, pages_per_request + 1], the last entry invalid
  std::int64_t* lengths_ = nullptr;     // [batch]
  std::int64_t* slots_ = nullptr;       // [batch]
};

}  // namespace helix
