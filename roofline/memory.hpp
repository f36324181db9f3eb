// What a rank must hold: capacity decides which batches a sharding can serve.
#pragma once

#include <cstdint>

#include "roofline/sharding.hpp"

namespace helix {

/// Bytes on the busiest rank of one of the three parts of a model, whole depth. They depend on the widths of
/// that part alone.
struct HeldBytes {
  double weights = 0;      // all experts included
  double per_request = 0;  // and request attended: KV pages
  double buffers = 0;      // per request attended, of one layer: all-to-all, sent and received
  double widest = 0;       // per request: inputs and outputs of the op with the most
};
HeldBytes held_by_attention(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape);
HeldBytes held_by_ffn(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape);
/// LM head and embedding table.
HeldBytes held_by_head(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape);

/// The batch enters linearly, so that the largest batch has a closed form.
struct MemoryModel {
  double weights = 0;
  double per_attended_request = 0;      // of ceil(batch / dp)
  double per_stage_request = 0;         // of ceil(batch / pp)
  std::int64_t tokens_per_request = 0;  // cached by the busiest rank
  double kv_duplication = 1;
  int dp = 1, pp = 1;

  double bytes(std::int64_t batch) const;
  /// Largest batch within `capacity`, 0 if not even one request fits.
  std::int64_t max_batch(double capacity) const;
};

MemoryModel memory_model(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                         const HeldBytes& attention, const HeldBytes& ffn, const HeldBytes& head);
/// `shape.batch` is not read.
MemoryModel memory_model(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape);

}  // namespace helix
