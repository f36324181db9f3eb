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

/// Where a launch runs.
enum class Beside { nothing, exchange };

/// Two blocks of 4 warps a multiprocessor, or beside an exchange one of 8: the hardware deals blocks to multiprocessors in
/// turn, so that of two a multiprocessor a few less would leave many of them half free and none whole. Where shared memory
/// has no room for 8 warps, none has it for two blocks.
template <DType dtype, int HeadDim>
DecodeKernel gqa_kernel(const Gpu& gpu, int group, Beside beside) {
  const auto of = []<int tiles, int warps>(std::integer_sequence<int, tiles, warps>) {
    using Shape = GqaShape<dtype, HeadDim, tiles, warps>;
    return DecodeKernel{gqa_decode<dtype, HeadDim, tiles, warps>, Shape::kHeads, Shape::kThreads,
                        Shape::kSharedBytes};
  };
  const auto fits = [&](const DecodeKernel& k) { return k.shared_bytes <= gpu.shared_bytes_per_block; };
  const DecodeKernel wide = of(std::integer_sequence<int, 2, 4>{});
  const bool two_tiles = group > 8 && fits(wide);
  const DecodeKernel half = two_tiles ? wide : of(std::integer_sequence<int, 1, 4>{}),
                     whole = two_tiles ? of(std::integer_sequence<int, 2, 8>{})
                                       : of(std::integer_sequence<int, 1, 8>{});
  return beside == Beside::exchange && fits(whole) ? whole : half;
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
DecodeKernel decode_kernel(const Gpu& gpu, const KvShape& shape, int group, Beside beside) {
  if (shape.kind == AttentionKind::mla) return mla_kernel<dtype>(gpu, group);
  if (shape.head_dim == 64) return gqa_kernel<dtype, 64>(gpu, group, beside);
  if (shape.head_dim == 128) return gqa_kernel<dtype, 128>(gpu, group, beside);
  return gqa_kernel<dtype, 256>(gpu, group, beside);
}

/// The kernel for a KV head's `group` query heads, of all rows of a request. Its pages must have a layout.
inline DecodeKernel decode_kernel(const Gpu& gpu, const KvShape& shape, int group,
                                  Beside beside = Beside::nothing) {
  return shape.dtype == DType::bf16  ? decode_kernel<DType::bf16>(gpu, shape, group, beside)
         : shape.dtype == DType::fp8 ? decode_kernel<DType::fp8>(gpu, shape, group, beside)
                                     : decode_kernel<DType::nvfp4>(gpu, shape, group, beside);
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

inline DecodeKernel require_kernel(const Gpu& gpu, const KvShape& shape, int group, Beside beside) {
  if (const std::string reason = why_not_attended(gpu, shape); !reason.empty()) throw UsageError(reason);
  return decode_kernel(gpu, shape, group, beside);
}

/// How a launch is laid out. Beside an exchange a multiprocessor holds one block, and as many blocks as are there at a time
/// leave it its multiprocessors. Of more blocks the first fill all: the exchange, which is first in the device's queue, gets
/// its own as they end.
struct DecodePlan {
  DecodeKernel kernel;
  int group, chunks;
  std::int64_t blocks;       // without splits
  std::int64_t block_slots;  // that are to run at a time
  std::int64_t rows;         // query heads of all rows of all requests

  static constexpr int kBlockReserve = 1024;  // bytes of shared memory that CUDA takes in every block

  DecodePlan(const Gpu& gpu, const KvShape& shape, std::int64_t batch, std::int64_t q_heads,
             Beside beside = Beside::nothing)
      : kernel(require_kernel(gpu, shape, static_cast<int>(q_heads / shape.kv_heads), beside)),
        group(static_cast<int>(q_heads / shape.kv_heads)),
        chunks((group + kernel.heads - 1) / kernel.heads),
        blocks(batch * shape.kv_heads * chunks),
        rows(batch * q_heads) {
    int left = 0;
    if (beside == Beside::exchange) {
      left = gpu.left_to_exchange();
      // So much shared memory that there is none for a second block.
      kernel.shared_bytes =
          std::max(kernel.shared_bytes, gpu.shared_bytes_per_multiprocessor / 2 - kBlockReserve + 1);
    }
    block_slots = static_cast<std::int64_t>(gpu.multiprocessors - left) * resident(gpu);
  }

  /// Blocks that a multiprocessor holds at a time.
  int resident(const Gpu& gpu) const {
    return std::clamp(gpu.shared_bytes_per_multiprocessor / (kernel.shared_bytes + kBlockReserve), 1, 2);
  }

  /// Results that so many splits leave to be merged: o in fp32, and the LSE.
  std::size_t scratch_bytes(const KvShape& shape, int splits) const {
    if (splits == 1) return 0;
    return static_cast<std::size_t>(rows * splits * (shape.v_dim + 1)) * sizeof(float);
  }
};

/// Fewer requests may be cut into so many more splits that they leave more results, and so may those beside an exchange.
inline std::size_t attention_scratch_bytes(const Gpu& gpu, const KvShape& shape, std::int64_t most_requests,
                                           std::int64_t q_heads) {
  std::size_t most = 0;
  for (std::int64_t batch = 1; batch <= most_requests; ++batch) {
    for (const Beside beside : {Beside::nothing, Beside::exchange}) {
      const DecodePlan plan(gpu, shape, batch, q_heads, beside);
      most = std::max(most, plan.scratch_bytes(shape, most_splits(plan.blocks, plan.block_slots)));
    }
  }
  return most;
}

inline void attention(const Gpu& gpu, Stream stream, const KvView& cache, std::int64_t batch,
                      std::int64_t q_heads, float scale, const BF16* q, BF16* o, float* lse,
                      std::span<std::byte> scratch, Beside beside = Beside::nothing) {
  const KvShape& shape = cache.shape;
  const DecodePlan plan(gpu, shape, batch, q_heads * cache.query_tokens, beside);
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
