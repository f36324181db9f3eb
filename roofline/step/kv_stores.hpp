// What a layer caches of one request, and what of it a step reads.
#pragma once

#include <cstdint>
#include <vector>

#include "roofline/model/attention_spec.hpp"

namespace helix {

/// Entries of one kind on the busiest of the KVP ranks, each of `values` values.
struct KvStore {
  std::int64_t held = 0;     // 0 where they are another layer's
  std::int64_t present = 0;  // to choose from
  std::int64_t read = 0;
  std::int64_t values = 0;
  bool index_keys = false;  // the indexer's
  // How many more a longer context brings: one for so many tokens, until the store is full.
  std::int64_t tokens_per_entry = 1;
  std::int64_t full_at = 0;  // entries, 0: never
};

/// How many tokens of the context a rank holds at most.
struct KvShard {
  std::int64_t context = 0;
  int tokens_per_block = 1, kvp = 1;
  std::int64_t kv_heads = 1;  // cached here
};

/// A layer that attends to all, over a window or a chunk has one store; the keys of an indexer are one more,
/// and so are entries that stand for many tokens. The window's tokens, and those that an indexer chooses, are
/// taken to lie evenly on the ranks.
std::vector<KvStore> kv_stores(const AttentionSpec& attention, const KvShard& shard);

}  // namespace helix
