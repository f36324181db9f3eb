// DecodeOps::attention (kernels/ops/ops.hpp) on a GPU: picks the kernel for a shape and how many blocks
// share a request.
#pragma once

#include <span>
#include <string>

#include "kernels/cuda/attention/attention_gqa.cuh"
#include "kernels/cuda/attention/attention_mla.cuh"
#include "kernels/ops/memory.hpp"

namespace helix::cuda {

/// One instance of a decode kernel.
struct DecodeKernel {
  void (*run)(KvView, DecodeGrid, Global<const BF16>, DecodeOutput);
  int heads, threads, shared_bytes;
};

template <DType dtype, int HeadDim>
DecodeKernel gqa_kernel(const Gpu& gpu, int group) {
  const auto of = []<int tiles>(std::integral_constant<int, tiles>) {
    using Shape = GqaShape<dtype, HeadDim, tiles>;
    return DecodeKernel{gqa_decode<dtype, HeadDim, tiles>, Shape::kHeads, kGqaThreads, Shape::kSharedBytes};
  };
  const DecodeKernel wide = of(std::integral_constant<int, 2>{});
  const bool fits = wide.shared_bytes <= gpu.shared_bytes_per_block;
  return group > 8 && fits ? wide : of(std::integral_constant<int, 1>{});
}

/// Many heads a block, so that the cache is read by few, as shared memory allows. With few heads a warp has all of a tile
/// of tokens, so that what has to be widened is widened once.
template <DType dtype>
DecodeKernel mla_kernel(const Gpu& gpu, int heads) {
  const auto of =
      []<int block_heads, int tiles, int share>(std::integer_sequence<int, block_heads, tiles, share>) {
        using Shape = MlaShape<dtype, block_heads, tiles, share>;
        return DecodeKernel{mla_decode<dtype, block_heads, tiles, share>, block_heads, Shape::kThreads,
                            Shape::kSharedBytes};
      };
  constexpr int share = dtype == DType::bf16 ? 2 : 1;
  const DecodeKernel wide = of(std::integer_sequence<int, 64, 4, 2>{}),
                     medium = of(std::integer_sequence<int, 32, 4, 2>{}),
                     narrow = of(std::integer_sequence<int, 16, 8 / share, share>{}),
                     small = of(std::integer_sequence<int, 16, 2, 2>{});
  for (const DecodeKernel& k : {heads > 32 ? wide : medium, heads > 16 ? medium : narrow, narrow})
    if (k.shared_bytes <= gpu.shared_bytes_per_block) return k;
  return small;
}

template <DType dtype>
DecodeKernel decode_kernel(const Gpu& gpu, const KvShape& shape, int group) {
  if (shape.kind == AttentionKind::mla) return mla_kernel<dtype>(gpu, group);
  if (shape.head_dim == 64) return gqa_kernel<dtype, 64>(gpu, group);
  if (shape.head_dim == 128) return gqa_kernel<dtype, 128>(gpu, group);
  return gqa_kernel<dtype, 256>(gpu, group);
}

/// The kernel for a KV head's `group` query heads, of all rows of a request. Its pages must have a layout.
inline DecodeKernel decode_kernel(const Gpu& gpu, const KvShape& shape, int group) {
  return shape.dtype == DType::bf16  ? decode_kernel<DType::bf16>(gpu, shape, group)
         : shape.dtype == DType::fp8 ? decode_kernel<DType::fp8>(gpu, shape, group)
                                     : decode_kernel<DType::nvfp4>(gpu, shape, group);
}

/// Why attention does not run over this cache; empty if it does.
inline std::string why_not_attended(const Gpu& gpu, const KvShape& shape) {
  if (std::string reason = why_no_layout(shape); !reason.empty()) return reason;
  if (holds_index_keys(shape)) return "an indexer's keys are scored, not attended";
  const int least = decode_kernel(gpu, shape, 1).shared_bytes;
  if (least <= gpu.shared_bytes_per_block) return {};
  return "attention needs " + std::to_string(least) +
         " bytes of shared memory a block, of which this GPU has " +
         std::to_string(gpu.shared_bytes_per_block);
}

inline DecodeKernel require_kernel(const Gpu& gpu, const KvShape& shape, int group) {
  if (const std::string reason = why_not_attended(gpu, shape); !reason.empty()) throw UsageError(reason);
  return decode_kernel(gpu, shape, group);
}

/// How a launch is laid out.
struct DecodePlan {
  DecodeKernel kernel;
  int group, chunks;
  std::int64_t blocks;       // without splits
  std::int64_t block_slots;  // that the GPU runs at a time
  std::int64_t rows;         // query heads of all rows of all requests

  DecodePlan(const Gpu& gpu, const KvShape& shape, std::int64_t batch, std::int64_t q_heads)
      : kernel(require_kernel(gpu, shape, static_cast<int>(q_heads / shape.kv_heads))),
        group(static_cast<int>(q_heads / shape.kv_heads)),
        chunks((group + kernel.heads - 1) / kernel.heads),
        blocks(batch * shape.kv_heads * chunks),
        rows(batch * q_heads) {
    constexpr int reserved = 1024;  // of shared memory, by CUDA, in every block
    const int resident = gpu.shared_bytes_per_multiprocessor / (kernel.shared_bytes + reserved);
    block_slots = static_cast<std::int64_t>(gpu.multiprocessors) * std::clamp(resident, 1, 2);
  }

  /// Results that so many splits leave to be merged: o in fp32, and the LSE.
  std::size_t scratch_bytes(const KvShape& shape, int splits) const {
    if (splits == 1) return 0;
    return static_cast<std::size_t>(rows * splits * (shape.v_dim + 1)) * sizeof(float);
  }
};

/// Fewer requests may be cut into so many more splits that they leave more results.
inline std::size_t attention_scratch_bytes(const Gpu& gpu, const KvShape& shape, std::int64_t most_requests,
                                           std::int64_t q_heads) {
  std::size_t most = 0;
  for (std::int64_t batch = 1; batch <= most_requests; ++batch) {
    const DecodePlan plan(gpu, shape, batch, q_heads);
    most = std::max(most, plan.scratch_bytes(shape, most_splits(plan.blocks, plan.block_slots)));
  }
  return most;
}

inline void attention(const Gpu& gpu, Stream stream, const KvView& cache, std::int64_t batch,
                      std::int64_t q_heads, float scale, const BF16* q, BF16* o, float* lse,
                      std::span<std::byte> scratch) {
  const KvShape& shape = cache.shape;
  const DecodePlan plan(gpu, shape, batch, q_heads * cache.query_tokens);
  const int splits = choose_splits(plan.blocks, plan.block_slots,
                                   cache.max_pages * shape.tokens_per_page / gpu.split_tokens);
  require_scratch("attention", batch, plan.scratch_bytes(shape, splits), scratch);
  auto* const split_o = reinterpret_cast<float*>(scratch.data());
  const DecodeOutput out{o, lse, split_o, split_o + (splits > 1 ? plan.rows * splits * shape.v_dim : 0)};
  const DecodeGrid decode{.q_heads = q_heads,
                          .query_tokens = static_cast<int>(cache.query_tokens),
                          .row_heads = static_cast<int>(q_heads / shape.kv_heads),
                          .group = plan.group,
                          .chunks = plan.chunks,
                          .splits = splits,
                          .scale_log2 = scale * std::numbers::log2e_v<float>};
  launch(plan.kernel.run,
         Dim3(static_cast<unsigned>(splits * plan.chunks), static_cast<unsigned>(shape.kv_heads),
              static_cast<unsigned>(batch)),
         static_cast<unsigned>(plan.kernel.threads), static_cast<std::size_t>(plan.kernel.shared_bytes),
         stream, cache, decode, q, out);
  if (splits == 1) return;
  const auto merge = shape.v_dim == 64    ? merge_splits<64>
                     : shape.v_dim == 128 ? merge_splits<128>
                     : shape.v_dim == 256 ? merge_splits<256>
                                          : merge_splits<512>;
  launch(merge, static_cast<unsigned>(plan.rows), kMergeThreads, 0, stream, splits, out);
}

}  // namespace helix::cuda
