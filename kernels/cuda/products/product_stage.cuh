// Where the operands of products.cuh lie in shared memory: a stage of its pipeline is 256 inputs of a block's
// 32 outputs, still packed, their NVFP4 scales, and the same inputs of kRows rows of x.
#pragma once

#include "kernels/cuda/products/weight_format.cuh"

namespace helix::cuda {

inline constexpr int kProductWarps = 4, kProductThreads = kProductWarps * kWarp;
inline constexpr int kProductOutputs = 32;                 // of a block: two sets of 16
inline constexpr int kStageInputs = 256, kLaneInputs = 8;  // of a stage; in one load
inline constexpr int kGroups = kStageInputs / kProductWarps / (4 * kLaneInputs);  // of 32 inputs, of a warp

/// A stage of rows of packed values in shared memory. Lanes 4 g + t read number t of row g: their 8 rows'
/// loads fall into different banks, as eight 16-byte chunks at a time are permuted by the row.
template <DType dtype>
struct StageRows {
  static constexpr int kRowChunks = kStageInputs / static_cast<int>(values_per_chunk(dtype));
  static constexpr int kRowBytes = kRowChunks * 16;
  static constexpr int kGroupChunks = kRowChunks / (kStageInputs / (4 * kLaneInputs));  // 4, 2, 1
  using Packed = typename WeightFormat<dtype>::Packed;

  static HELIX_DEVICE int chunk_at(int row, int chunk) {
    return row * kRowBytes + (chunk ^ (row % (8 / kGroupChunks) * kGroupChunks)) * 16;
  }
  /// The lane's 8 inputs of a group of 32.
  static HELIX_DEVICE Packed load(Shared<const std::byte> rows, int row, int group) {
    const int byte = lane_index() % 4 * static_cast<int>(sizeof(Packed));
    const int at = chunk_at(row, group * kGroupChunks + byte / 16) + byte % 16;
    return (rows + at).template as<const Packed>()[0];
  }
};

template <DType dtype, int kRows>
struct ProductStage {
  static constexpr int kWeightBytes = kProductOutputs * StageRows<dtype>::kRowBytes;
  // [tile of 4 blocks][output] chunks of 16 bytes.
  static constexpr int kTiles = kStageInputs / (kScaleTileBlocks * kNvfp4Block);
  static constexpr int kScaleBytes = dtype == DType::nvfp4 ? kTiles * kProductOutputs * 16 : 0;
  static constexpr int kBytes = kWeightBytes + kScaleBytes + kRows * StageRows<DType::bf16>::kRowBytes;
  static constexpr int kCount = (kRows == 8 ? 80 : 96) * 1024 / kBytes;
  static constexpr int kSharedBytes = kCount * kBytes;
};

}  // namespace helix::cuda
