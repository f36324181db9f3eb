// The grouped products of the active experts: each reads its weights once and has few rows. y^T = W x^T, so that 16
// outputs, and not 16 rows, are the smallest unit of the tensor cores; the other one is 8 rows.
//
// A block computes 2 x 16 outputs of one expert for up to kRows rows at a time. Its four warps share the inputs: a stage
// of the pipeline holds 256 of them, 64 for each warp; the four partial sums are added at the end. Gated: the two
// sets of outputs are gate and up of the same column, and leave as swiglu(gate, up); otherwise they are neighbours.
#include "kernels/cuda/moe.hpp"
#include "kernels/cuda/packed_rows.hpp"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/cuda/vector_access.cuh"

namespace helix::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kOutputs = 32;              // of a block: two sets of 16
constexpr int kInputs = 256;              // of a stage
constexpr int kChunks = kInputs / kVector;  // of 16 bytes, of a row in a stage

// 16-byte chunk `chunk` of row `row` lies where eight rows' chunks of one number fall into different banks.
HELIX_DEVICE int chunk_at(int row, int chunk) {
  return (row * kChunks + (chunk ^ (row & 7))) * kVector;
}

struct ProductShape {
  std::int64_t n, k, ldw, ldx;
  std::int64_t expert_stride;  // values from one expert's matrix to the next
  std::int64_t second;         // outputs from the first set to the second
};

// kRows: 8 or 32. kAligned: rows of x start at whole 16 bytes and k is a multiple of 8.
template <int kRows, bool kGated, bool kAligned>
struct Product {
  static constexpr int kTiles = kRows / 8;
  static constexpr int kStages = kRows == 8 ? 4 : 3;
  static constexpr int kStageValues = (kOutputs + kRows) * kInputs;
  static constexpr std::size_t kSharedBytes = std::size_t{kStages} * kStageValues * sizeof(BF16);
  static constexpr int kSums = 2 * kTiles * 4;  // of a thread
  static_assert(kSharedBytes >= std::size_t{kThreads} * kSums * sizeof(float), "partial sums reuse the stages");

  const ProductShape& shape;
  Global<const BF16> w;  // of the expert
  Global<const BF16> x;
  Global<const std::int32_t> tokens;  // gated: rows of x, from the expert's first row on
  std::int64_t first_row;             // plain: the expert's first row of x
  std::int64_t output;                // of the first set
  Vec<float, 4> sums[2][kTiles];

  HELIX_DEVICE Shared<BF16> weights_of(int stage) const { return shared_memory<BF16>() + stage * kStageValues; }
  HELIX_DEVICE Shared<BF16> rows_of(int stage) const { return weights_of(stage) + kOutputs * kInputs; }

  HELIX_DEVICE void load_weights(int stage, std::int64_t k0) const {
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const std::int64_t input = k0 + chunk * kVector;
#pragma unroll
    for (int row = static_cast<int>(threadIdx.x) / kChunks; row < kOutputs; row += kThreads / kChunks) {
      const std::int64_t in_set = output + row % 16;
      const bool exists = input < shape.ldw && in_set < shape.second_end(kGated, row / 16);
      const std::int64_t at = (in_set + (row / 16) * shape.second) * shape.ldw + input;
      cp_async_16(weights_of(stage) + chunk_at(row, chunk), w + (exists ? at : 0), exists ? 16 : 0);
    }
  }
};

}  // namespace
}  // namespace helix::cuda
