// Attention by kernels that others made, behind the ops of the CUDA backend. Each reads a plain cache (plain_pages.cuh).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/cuda/device/gpu.hpp"
#include "kernels/cuda/device/stream.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/kv_view.hpp"

namespace helix::cuda {

/// The arguments of DecodeOps::attention.
struct AttentionCall {
  const KvView& cache;
  std::int64_t batch, q_heads;
  float scale;
  const BF16* q;
  BF16* o;
  float* lse;
  std::span<std::byte> scratch;
  int multiprocessors;  // that it may fill
};

class AttentionProvider {
 public:
  virtual ~AttentionProvider() = default;
  virtual KernelMaker maker() const = 0;
  /// Why it does not attend such a cache with these query heads for each of a step's tokens; empty if it does.
  virtual std::string why_not(const KvShape& shape, std::int64_t q_heads,
                              std::int64_t query_tokens) const = 0;
  virtual std::size_t scratch_bytes(const KvShape& shape, std::int64_t most_requests,
                                    std::int64_t q_heads) const = 0;
  virtual void attend(Stream stream, const AttentionCall& call) = 0;
};

}  // namespace helix::cuda
