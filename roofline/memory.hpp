// What a rank must hold: capacity decides which batches a sharding can serve.
#pragma once

#include <cstdint>

#include "roofline/sharding.hpp"

namespace helix {

/// Bytes on the busiest rank. The batch enters linearly, so that the largest batch has a closed form.
struct MemoryModel {
  double weights = 0;  // all experts included, of ceil(layers / pp) layers, embedding and LM head
  double per_attended_request = 0;  // KV pages and all-to-all buffers; ceil(batch / dp) requests
  double per_stage_request = 0;     // activations; ceil(batch / pp) requests
  int dp = 1, pp = 1;

  double bytes(std::int64_t batch) const;
  /// Largest batch within `capacity`, 0 if not even the weights fit.
  std::int64_t max_batch(double capacity) const;
};

/// `shape.batch` is not read.
MemoryModel memory_model(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape);

}  // namespace helix
