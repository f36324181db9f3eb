// y = x W^T by a kernel of ours, for weights of any type and few rows of x: the products of the active
// experts, each of which has few, and those with quantised weights where the batch is small. The weights are
// widened to bf16 in registers, exactly, so that only the stored values differ from those of bf16 weights,
// and nothing of x. y^T = W x^T, so that 16 outputs, and not 16 rows, are the smallest unit of the tensor
// cores; the other one is 8 rows.
//
// Grid: x = outputs, y = matrix (expert, head). A block computes 2 x 16 outputs of one matrix for up to kRows
// rows at a time. Its four warps share the inputs: a stage of the pipeline holds 256 of them, 64 for each
// warp; the four partial sums are added at the end. A lane takes 8 consecutive inputs of a row with one load,
// of the weights and of x alike. gate_up: the two sets of outputs are gate and up of the same column, and
// leave as a gated unit of the two; otherwise they are neighbours.
//
// Bytes from memory: the weights once for every kRows rows (2, 1 or 0.5625 bytes each), x once for each 32
// outputs, which L2 serves. NVFP4's scales lie in chunks of 16 bytes that four blocks share in L2.
#pragma once

#include <type_traits>

#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/products/product_stage.cuh"
#include "kernels/cuda/small/gated_unit.cuh"

namespace helix::cuda {

/// Whose rows: `dense`: every matrix has them all. Experts: matrix active[blockIdx.y] has rows
/// [starts[expert], starts[expert + 1]), which are x[tokens[row]] for gate_up and x[row] for down.
enum class ProductOf { dense, gate_up, down };

struct ProductShape {
  std::int64_t rows = 0;     // dense
  std::int64_t columns = 0;  // outputs of a row of y: n, or half of it for gate_up
  std::int64_t k = 0;
  std::int64_t ldx = 0, ldy = 0, x_stride = 0, y_stride = 0;  // strides: from one matrix to the next
  std::int64_t row_bytes = 0, matrix_bytes = 0, scale_offset = 0, tiles = 0;  // of W, see packed_weight.hpp
  float factor = 1.0f;  // of what the tensor cores add up
};

struct ExpertRows {
  Global<const std::int32_t> starts, active, active_count, tokens;
  Global<const BF16> bias;  // [experts, outputs of W]
  bool biased = false;
  UnitValues unit{};  // gate_up
};

/// kRows: 8 or 32. kAligned: rows of x start at whole 16 bytes and k is a multiple of 8.
template <DType dtype, int kRows, ProductOf kOf, bool kAligned, typename Y>
HELIX_KERNEL HELIX_BOUNDS(kProductThreads, 2) void product_kernel(ProductShape shape, ExpertRows experts,
                                                                  Global<const std::byte> w,
                                                                  Global<const BF16> x, Global<Y> y) {
  using Stage = ProductStage<dtype, kRows>;
  using Weights = StageRows<dtype>;
  using Inputs = StageRows<DType::bf16>;
  constexpr int tiles = kRows / 8, stages = Stage::kCount;
  std::int64_t matrix = blockIdx.y, begin = 0, end = shape.rows;
  if constexpr (kOf != ProductOf::dense) {
    const std::int32_t experts_here = experts.active_count[0];
    if (static_cast<std::int32_t>(blockIdx.y) >= experts_here) return;
    matrix = experts.active[blockIdx.y];
    begin = experts.starts[matrix];
    end = experts.starts[matrix + 1];
  }
  const std::int64_t first_column =
      static_cast<std::int64_t>(blockIdx.x) * (kOf == ProductOf::gate_up ? 16 : kProductOutputs);
  const Global<const std::byte> weights = w + matrix * shape.matrix_bytes;
  const Global<const std::byte> scales = weights + shape.scale_offset;
  const Global<const BF16> inputs = x + matrix * shape.x_stride;
  const Global<Y> outputs = y + matrix * shape.y_stride;
  const int lane = lane_index(), warp = warp_index();
  const int stage_count = static_cast<int>((shape.k + kStageInputs - 1) / kStageInputs);

  /// Row of W of the block's output, -1: none.
  const auto weight_row = [&](int output) -> std::int64_t {
    const std::int64_t column = first_column + (kOf == ProductOf::gate_up ? output % 16 : output);
    if (column >= shape.columns) return -1;
    return kOf == ProductOf::gate_up && output >= 16 ? shape.columns + column : column;
  };
  const auto weights_of = [](int slot) { return shared_memory<std::byte>(slot * Stage::kBytes); };
  const auto scales_of = [](int slot) {
    return shared_memory<std::byte>(slot * Stage::kBytes + Stage::kWeightBytes);
  };
  const auto rows_of = [](int slot) {
    return shared_memory<std::byte>(slot * Stage::kBytes + Stage::kWeightBytes + Stage::kScaleBytes);
  };

  const auto load_weights = [&](int slot, int stage) {
    HELIX_UNROLL
    for (int i = 0; i < kProductOutputs * Weights::kRowChunks / kProductThreads; ++i) {
      const int piece = i * kProductThreads + static_cast<int>(threadIdx.x);
      const int output = piece / Weights::kRowChunks, chunk = piece % Weights::kRowChunks;
      const std::int64_t row = weight_row(output);
      const std::int64_t byte = static_cast<std::int64_t>(stage) * Weights::kRowBytes + chunk * 16;
      const bool exists = row >= 0 && byte < shape.row_bytes;
      cp_async_16(weights_of(slot) + Weights::chunk_at(output, chunk),
                  weights + (exists ? row * shape.row_bytes + byte : 0), exists ? 16 : 0);
    }
    if constexpr (dtype == DType::nvfp4) {
      static_assert(Stage::kScaleBytes == kProductThreads * 16);
      const int output = static_cast<int>(threadIdx.x) % kProductOutputs,
                in_stage = static_cast<int>(threadIdx.x) / kProductOutputs;
      const std::int64_t row = weight_row(output);
      const std::int64_t tile = static_cast<std::int64_t>(stage) * Stage::kTiles + in_stage;
      const bool exists = row >= 0 && tile < shape.tiles;
      const std::int64_t from = exists ? scale_index(row / kScaleTileRows * kScaleTileRows + row % 32,
                                                     tile * kScaleTileBlocks, shape.tiles)
                                       : 0;
      cp_async_16(scales_of(slot) + static_cast<int>(threadIdx.x) * 16, scales + from, exists ? 16 : 0);
    }
  };
  const auto load_rows = [&](int slot, int stage, std::int64_t first_row) {
    const std::int64_t input = static_cast<std::int64_t>(stage) * kStageInputs + lane * kLaneInputs;
    static_assert(Inputs::kRowChunks == kWarp);
    HELIX_UNROLL
    for (int row = warp; row < kRows; row += kProductWarps) {
      const std::int64_t i = first_row + row;
      const bool exists = i < end && input < shape.k;
      std::int64_t from = 0;
      if (exists) {
        std::int64_t x_row = i;
        if constexpr (kOf == ProductOf::gate_up) x_row = experts.tokens[i];
        from = x_row * shape.ldx + input;
      }
      const Shared<BF16> to = (rows_of(slot) + Inputs::chunk_at(row, lane)).template as<BF16>();
      if constexpr (kAligned) {
        cp_async_16(to, inputs + from, exists ? 16 : 0);
      } else {
        Vec<BF16, kVector> values;
        for (int j = 0; j < kVector; ++j) {
          values[j] = BF16{};
          if (exists && input + j < shape.k) values[j] = inputs[from + j];
        }
        to.template as<Vec<BF16, kVector>>()[0] = values;
      }
    }
  };

  // NVFP4: which of the four rows of its chunk of scales an output is.
  int quarter[2][2] = {};
  if constexpr (dtype == DType::nvfp4) {
    HELIX_UNROLL
    for (int set = 0; set < 2; ++set) {
      HELIX_UNROLL
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = weight_row(set * 16 + half * 8 + lane / 4);
        quarter[set][half] = static_cast<int>((row < 0 ? 0 : row) % kScaleTileRows / 32);
      }
    }
  }

  for (std::int64_t first_row = begin; first_row < end; first_row += kRows) {
    Vec<float, 4> sums[2][tiles] = {};
    HELIX_UNROLL
    for (int s = 0; s < stages - 1; ++s) {
      if (s < stage_count) {
        load_weights(s, s);
        load_rows(s, s, first_row);
      }
      cp_async_commit();
    }
    for (int s = 0; s < stage_count; ++s) {
      cp_async_wait<stages - 2>();
      block_sync();  // the stage is there for all, and all are done with the one before
      if (const int next = s + stages - 1; next < stage_count) {
        load_weights(next % stages, next);
        load_rows(next % stages, next, first_row);
      }
      cp_async_commit();
      const Shared<const std::byte> stage_weights = weights_of(s % stages), stage_rows = rows_of(s % stages);
      unsigned scale_words[2][2] = {};  // the four scales of the warp's inputs
      if constexpr (dtype == DType::nvfp4) {
        HELIX_UNROLL
        for (int set = 0; set < 2; ++set) {
          HELIX_UNROLL
          for (int half = 0; half < 2; ++half) {
            const int output = set * 16 + half * 8 + lane / 4;
            const int at = (warp * kProductOutputs + output) * 16 + quarter[set][half] * 4;
            const unsigned word = (scales_of(s % stages) + at).template as<const unsigned>()[0];
            scale_words[set][half] = word;
          }
        }
      }
      HELIX_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        const int group = warp * kGroups + g;
        Eight wide[2][2];  // [set][rows lane / 4 and 8 below]
        HELIX_UNROLL
        for (int set = 0; set < 2; ++set) {
          HELIX_UNROLL
          for (int half = 0; half < 2; ++half) {
            const int output = set * 16 + half * 8 + lane / 4;
            unsigned multiplier = 0;
            if constexpr (dtype == DType::nvfp4) {
              const int block = g * 2 + lane % 4 / 2;
              multiplier = WeightFormat<dtype>::multiplier(scale_words[set][half] >> (8 * block) & 0xffu);
            }
            wide[set][half] =
                WeightFormat<dtype>::widen(Weights::load(stage_weights, output, group), multiplier);
          }
        }
        HELIX_UNROLL
        for (int tile = 0; tile < tiles; ++tile) {
          if (first_row + tile * 8 >= end) break;
          const Eight b = Inputs::load(stage_rows, tile * 8 + lane / 4, group);
          // Two steps of 16 inputs: which of the group's these are is the same for both operands.
          HELIX_UNROLL
          for (int step = 0; step < 2; ++step) {
            HELIX_UNROLL
            for (int set = 0; set < 2; ++set) {
              mma_bf16(sums[set][tile],
                       {wide[set][0][2 * step], wide[set][1][2 * step], wide[set][0][2 * step + 1],
                        wide[set][1][2 * step + 1]},
                       {b[2 * step], b[2 * step + 1]});
            }
          }
        }
      }
    }
    cp_async_wait<0>();
    block_sync();  // the stages' memory is free for the partial sums

    const Shared<float> partial = shared_memory<float>();  // [warp][set][tile][element][lane]
    const auto partial_at = [&](int of_warp, int set, int tile, int element) {
      return (((of_warp * 2 + set) * tiles + tile) * 4 + element) * kWarp + lane;
    };
    HELIX_UNROLL
    for (int set = 0; set < 2; ++set) {
      HELIX_UNROLL
      for (int tile = 0; tile < tiles; ++tile) {
        HELIX_UNROLL
        for (int element = 0; element < 4; ++element) {
          partial[partial_at(warp, set, tile, element)] = sums[set][tile][element];
        }
      }
    }
    block_sync();
    for (int tile = warp; tile < tiles; tile += kProductWarps) {
      HELIX_UNROLL
      for (int element = 0; element < 4; ++element) {
        float total[2] = {};
        HELIX_UNROLL
        for (int set = 0; set < 2; ++set) {
          HELIX_UNROLL
          for (int of_warp = 0; of_warp < kProductWarps; ++of_warp) {
            const float part = partial[partial_at(of_warp, set, tile, element)];
            total[set] += part;
          }
          total[set] *= shape.factor;
        }
        // Element of m16n8: output lane / 4 (+ 8), row of x 2 (lane % 4) (+ 1).
        const std::int64_t row = first_row + tile * 8 + lane % 4 * 2 + element % 2;
        const std::int64_t column = first_column + lane / 4 + element / 2 * 8;
        if (row >= end) continue;
        const auto put = [&](std::int64_t to, float value) {
          if (to >= shape.columns) return;
          if constexpr (std::is_same_v<Y, BF16>) {
            outputs[row * shape.ldy + to] = to_bf16(value);
          } else {
            outputs[row * shape.ldy + to] = value;
          }
        };
        const auto bias_of = [&](std::int64_t output, std::int64_t outputs_of_w) -> float {
          return to_float(experts.bias[matrix * outputs_of_w + output]);
        };
        if constexpr (kOf == ProductOf::gate_up) {
          if (experts.biased && column < shape.columns) {
            total[0] += bias_of(column, 2 * shape.columns);
            total[1] += bias_of(shape.columns + column, 2 * shape.columns);
          }
          put(column, gated_value(experts.unit, total[0], total[1]));
        } else {
          if constexpr (kOf == ProductOf::down) {
            if (experts.biased) {
              if (column < shape.columns) total[0] += bias_of(column, shape.columns);
              if (column + 16 < shape.columns) total[1] += bias_of(column + 16, shape.columns);
            }
          }
          put(column, total[0]);
          put(column + 16, total[1]);
        }
      }
    }
    block_sync();  // the partial sums have been read
  }
}

/// The part of the shape that W decides.
inline ProductShape product_shape(const PackedWeight& w) {
  const PackedLayout layout(w.n, w.k, w.dtype);
  return {.columns = w.n,
          .k = w.k,
          .row_bytes = layout.row_bytes,
          .matrix_bytes = static_cast<std::int64_t>(w.stride_bytes),
          .scale_offset = layout.scale_offset,
          .tiles = scale_tiles(w.k),
          .factor = w.scale * (w.dtype == DType::nvfp4 ? WeightFormat<DType::nvfp4>::kFactor : 1.0f)};
}

template <DType dtype, int kRows, ProductOf kOf, typename Y>
void launch_product(Stream stream, std::int64_t matrices, const ProductShape& shape,
                    const ExpertRows& experts, const std::byte* w, const BF16* x, Y* y) {
  const auto kernel = vectorizable({x}, {shape.k, shape.ldx, shape.x_stride})
                          ? product_kernel<dtype, kRows, kOf, true, Y>
                          : product_kernel<dtype, kRows, kOf, false, Y>;
  launch(kernel,
         Dim3(blocks_for(shape.columns, kOf == ProductOf::gate_up ? 16 : kProductOutputs),
              static_cast<unsigned>(matrices)),
         Dim3(kProductThreads), static_cast<std::size_t>(ProductStage<dtype, kRows>::kSharedBytes), stream,
         shape, experts, w, x, y);
}

/// `rows`: the most that a matrix has.
template <ProductOf kOf, DType dtype, typename Y>
void launch_product_for(std::int64_t rows, Stream stream, std::int64_t matrices, const ProductShape& shape,
                        const ExpertRows& experts, const std::byte* w, const BF16* x, Y* y) {
  const auto run = rows <= 8 ? launch_product<dtype, 8, kOf, Y> : launch_product<dtype, 32, kOf, Y>;
  run(stream, matrices, shape, experts, w, x, y);
}

}  // namespace helix::cuda
