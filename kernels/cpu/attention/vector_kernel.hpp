// What flash-decode through Google Highway has in common for GQA and MLA: a worker's arrays, and what begins
// and finishes a unit.
#pragma once

#include "kernels/cpu/attention/chunk_kernel.hpp"

namespace helix::cpu {

/// One worker's arrays for a unit.
struct VectorWorkspace {
  static constexpr std::int64_t longest_chunk = 256;
  static constexpr std::int64_t score_stride = longest_chunk + 16;  // rows must not alias in L1

  float *q, *scores, *o, *sum;
  float* max;                   // of the unscaled scores
  std::uint16_t *rows, *k, *v;  // bf16: widened MLA rows; pairs of K and of V

  VectorWorkspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    q = carver.take<float>(shape.heads * layout.head_dim);
    scores = carver.take<float>(shape.heads * score_stride);
    o = carver.take<float>(shape.heads * layout.v_dim);
    max = carver.take<float>(shape.heads);
    sum = carver.take<float>(shape.heads);
    const std::int64_t slots = std::min(layout.padded_tokens, longest_chunk);
    rows = carver.take<std::uint16_t>(layout.mla && layout.fp8 ? slots * layout.head_dim : 0);
    k = carver.take<std::uint16_t>(layout.mla || layout.fp8 ? slots * layout.head_dim : 0);
    v = carver.take<std::uint16_t>(slots * layout.v_dim);
  }
};

class VectorChunkKernel final : public ChunkKernel {
 public:
  /// Takes a chunk into account; dispatches to the instruction set by itself.
  using ProcessChunk = void (*)(const UnitShape&, const Chunk&, Prefetcher&, const VectorWorkspace&);
  explicit VectorChunkKernel(ProcessChunk process_chunk) : process_(process_chunk) {}

  std::string name() const override;
  std::int64_t longest_chunk(const UnitShape&) const override { return VectorWorkspace::longest_chunk; }
  std::size_t workspace_bytes(const UnitShape& shape) const override;
  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override;
  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override;
  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override;

 private:
  ProcessChunk process_;
};

}  // namespace helix::cpu
