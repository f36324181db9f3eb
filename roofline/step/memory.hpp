// What a rank must hold: capacity decides which batches a sharding can serve.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "roofline/step/decode_step.hpp"

namespace helix {

/// KV bytes of the layers that keep as many tokens.
struct KvPerToken {
  std::int64_t full_at = 0;  // tokens on this rank that they keep at most, 0: all
  double bytes = 0;          // of one token in all these layers
};

/// Bytes on the busiest rank of one of the three parts of a model, whole depth. They depend on the widths of
/// that part alone.
struct HeldBytes {
  double weights = 0;          // all experts included
  double per_request = 0;      // and request attended: KV pages
  std::vector<KvPerToken> kv;  // the same by the token
  double state = 0;            // per request attended: of layers without a cache
  double buffers = 0;          // per request attended, of one layer: all-to-all, sent and received
  double widest = 0;           // per request: inputs and outputs of the op with the most
};
HeldBytes held_by_attention(const DecodeStep& step);
HeldBytes held_by_ffn(const DecodeStep& step);
/// LM head and embedding table.
HeldBytes held_by_head(const DecodeStep& step);

/// The batch enters linearly, so that the largest batch has a closed form.
struct MemoryModel {
  double weights = 0;
  double per_attended_request = 0;      // of ceil(batch / dp)
  double per_stage_request = 0;         // of ceil(batch / pp)
  std::int64_t tokens_per_request = 0;  // cached by the busiest rank
  double kv_duplication = 1;
  int dp = 1, pp = 1;
  // What a request's KV pages grow by, for longer contexts than the one that it was made for; what ends first
  // comes first.
  std::vector<KvPerToken> kv{};
  double kv_per_request = 0;     // of per_attended_request
  double state_per_request = 0;  // likewise
  int kvp = 1, tokens_per_block = 1;

  double bytes(std::int64_t batch) const;
  /// Largest batch within `capacity`, 0 if not even one request fits.
  std::int64_t max_batch(double capacity) const;
  /// Longest context of which `batch` requests fit into `capacity`, in whole blocks, 0 if none does. At most
  /// 2^40 tokens, which caches of windows alone would exceed.
  std::int64_t max_context(std::int64_t batch, double capacity) const;
};

/// "does not fit memory: needs 146.2 GiB per rank, has 129.2 (0.92 of 140.4)", and what fraction would do.
std::string shortage_text(double needed_bytes, double capacity_bytes, double memory_fraction);

MemoryModel memory_model(const DecodeStep& step, const HeldBytes& attention, const HeldBytes& ffn,
                         const HeldBytes& head);
/// `shape.batch` is not read.
MemoryModel memory_model(const DecodeStep& step);

}  // namespace helix
