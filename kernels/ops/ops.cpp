// Ops that are several others, for backends that have no kernel of their own for them.
#include "kernels/ops/ops.hpp"

namespace helix {

void DecodeOps::kv_append_new(const KvView& cache, std::int64_t batch, const NewTokens& tokens) {
  const std::int64_t rows = batch * cache.query_tokens;
  if (tokens.gain != nullptr)
    rms_norm_heads(rows, 1, tokens.normed, tokens.gain, tokens.eps, {tokens.k, tokens.ldk, tokens.normed});
  const HeadRows<BF16> rotated{tokens.k + tokens.rotated, tokens.ldk, cache.shape.head_dim};
  rope(tokens.rope, rows, cache.shape.kv_heads, tokens.positions, rotated, rotated);
  kv_append(cache, batch, tokens.slots, tokens.k, tokens.ldk, tokens.v, tokens.ldv);
}

}  // namespace helix
