#include "roofline/step/kv_stores.hpp"

#include <algorithm>

#include "roofline/base/arithmetic.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

std::vector<KvStore> kv_stores(const AttentionSpec& a, const KvShard& shard) {
  const auto busiest = [&](std::int64_t tokens) {
    return history_tokens(tokens, shard.tokens_per_block, shard.kvp, 0).size();
  };
  const auto chosen = [&](std::int64_t entries) {
    return a.indexer.heads > 0 ? std::min(entries, ceil_div(a.indexer.top_k, shard.kvp)) : entries;
  };
  const std::int64_t values = shard.kv_heads * a.kv_values_per_token();
  std::vector<KvStore> stores;

  KvStore tokens{.held = busiest(shard.context), .values = values};
  if (a.window > 0) {
    tokens.held = busiest(std::min(shard.context, a.window));
    tokens.full_at = busiest(a.window);
  }
  tokens.present = tokens.held;
  tokens.read = a.compression > 0 ? tokens.held : chosen(tokens.held);
  if (a.borrows_kv) tokens.held = 0;
  stores.push_back(tokens);

  std::int64_t scored = busiest(shard.context);
  if (a.compression > 0) {
    scored = ceil_div(shard.context / a.compression, shard.kvp);
    stores.push_back({.held = scored,
                      .present = scored,
                      .read = chosen(scored),
                      .values = values,
                      .tokens_per_entry = a.compression});
  }
  if (a.indexer.heads > 0 && !a.indexer.reused) {
    stores.push_back({.held = scored,
                      .present = scored,
                      .read = scored,
                      .values = a.indexer.head_dim,
                      .index_keys = true,
                      .tokens_per_entry = std::max<std::int64_t>(1, a.compression)});
  }
  return stores;
}

}  // namespace helix
