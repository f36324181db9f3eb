// What an instruction set implements of flash-decode: the query heads of one KV head of one request against
// chunks of its tokens, with online softmax in base 2. The walk over chunks, the split over workers and the merge are
// common to all (attention.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cpu/attention/kv_chunks.hpp"
#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/cpu/machine/amx.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/memory.hpp"

namespace helix::cpu {

struct UnitShape {
  KvLayout layout;
  std::int64_t heads = 0;   // query heads of a KV head
  float scale_log2 = 0.0f;  // softmax scale * log2(e)
};

class ChunkKernel {
 public:
  virtual ~ChunkKernel() = default;
  /// "amx-bf16", "avx512-bf16", or the instruction set that it is compiled for.
  virtual std::string name() const = 0;
  /// Tokens of the longest chunk it wants: a multiple of the layout's granule, up to chunk_tokens.
  virtual std::int64_t longest_chunk(const UnitShape& shape) const = 0;
  /// Whether it reads the lines of a chunk, then one segment of one page, in their order, and calls Prefetcher::line
  /// at each. A worker then takes the chunks of all KV heads as they lie in memory.
  virtual bool reads_in_order(const UnitShape&) const { return false; }
  /// A multiple of 64.
  virtual std::size_t workspace_bytes(const UnitShape& shape) const = 0;
  /// q: [heads, head_dim].
  virtual void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const = 0;
  virtual void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
                       std::byte* workspace) const = 0;
  /// o [heads, v_dim] = softmax(q k^T) v over the chunks since `begin`; lse2 [heads] in base 2.
  virtual void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const = 0;
};

/// Google Highway, every shape of GQA and of absorbed MLA.
const ChunkKernel& vector_chunk_kernel();
const ChunkKernel& vector_mla_chunk_kernel();
#if HELIX_HAVE_AMX
/// GQA with head_dim a multiple of 32.
const ChunkKernel& amx_chunk_kernel();
/// Absorbed MLA.
const ChunkKernel& amx_mla_chunk_kernel();
/// Every shape of GQA and of absorbed MLA, by bf16 dot products or by fp32 multiply-adds.
const ChunkKernel& avx512_chunk_kernel(bool dots);
const ChunkKernel& avx512_mla_chunk_kernel(bool dots);
inline std::string avx512_name(bool dots) {
  return dots ? "avx512-bf16" : "avx512";
}
#endif

}  // namespace helix::cpu
