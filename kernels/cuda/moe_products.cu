// The grouped products of the active experts: each reads its weights once and has few rows. y^T = W x^T, so
// that 16 outputs, and not 16 rows, are the smallest unit of the tensor cores; the other one is 8 rows.
//
// A block computes 2 x 16 outputs of one expert for up to kRows rows at a time. Its four warps share the
// inputs: a stage of the pipeline holds 256 of them, 64 for each warp; the four partial sums are added at the
// end. Gated: the two sets of outputs are gate and up of the same column, and leave as swiglu(gate, up);
// otherwise they are neighbours.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/moe.hpp"
#include "kernels/cuda/packed_rows.hpp"
#include "kernels/cuda/swiglu.cuh"
#include "kernels/cuda/vector_access.cuh"

namespace helix::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kOutputs = 32;                // of a block: two sets of 16
constexpr int kInputs = 256;                // of a stage
constexpr int kChunks = kInputs / kVector;  // of 16 bytes, of a row in a stage

// 16-byte chunk `chunk` of row `row` lies where eight rows' chunks of one number fall into different banks.
HELIX_DEVICE int chunk_at(int row, int chunk) {
  return (row * kChunks + (chunk ^ (row & 7))) * kVector;
}

struct ProductShape {
  std::int64_t columns;        // outputs of a row of y: n, or half of it if gated
  std::int64_t k, ldw;         // inputs; values from one row of a weight to the next
  std::int64_t expert_stride;  // values from one expert's matrix to the next
};

template <int kRows>
struct Stages {
  static constexpr int count = kRows == 8 ? 4 : 3;
  static constexpr int values = (kOutputs + kRows) * kInputs;
  static constexpr std::size_t bytes = std::size_t{count} * values * sizeof(BF16);
};

/// kRows: 8 or 32. kAligned: rows of x start at whole 16 bytes and k is a multiple of 8.
/// Gated: the expert's row i is x[tokens[i]], and y is bf16. Otherwise it is x[i], and y is fp32.
template <int kRows, bool kGated, bool kAligned>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 2) void product_kernel(
    ProductShape shape, Global<const std::int32_t> starts, Global<const std::int32_t> active,
    Global<const std::int32_t> active_count, Global<const std::int32_t> tokens, Global<const BF16> w,
    Global<const BF16> x, Global<std::conditional_t<kGated, BF16, float>> y) {
  constexpr int tiles = kRows / 8, stages = Stages<kRows>::count;
  const std::int32_t experts_here = active_count[0];
  if (static_cast<std::int32_t>(blockIdx.y) >= experts_here) return;
  const std::int32_t expert = active[blockIdx.y];
  const std::int64_t begin = starts[expert], end = starts[expert + 1];
  const std::int64_t first_column =
      static_cast<std::int64_t>(blockIdx.x) * (kGated ? kOutputs / 2 : kOutputs);
  const Global<const BF16> weights = w + expert * shape.expert_stride;
  const int lane = lane_index(), warp = warp_index();
  const int stage_count = static_cast<int>((shape.k + kInputs - 1) / kInputs);

  const auto weights_of = [](int stage) { return shared_memory<BF16>() + stage * Stages<kRows>::values; };
  const auto rows_of = [](int stage) {
    return shared_memory<BF16>() + (stage * Stages<kRows>::values + kOutputs * kInputs);
  };
  // Each warp copies whole rows of a stage: lane = chunk.
  static_assert(kChunks == kWarp);
  const auto load_weights = [&](int slot, int stage) {
    const std::int64_t input = static_cast<std::int64_t>(stage) * kInputs + lane * kVector;
    HELIX_UNROLL
    for (int row = warp; row < kOutputs; row += kWarps) {
      const std::int64_t column = first_column + (kGated ? row % 16 : row);
      const bool exists = input < shape.ldw && column < shape.columns;
      const std::int64_t weight_row = kGated && row >= 16 ? shape.columns + column : column;
      cp_async_16(weights_of(slot) + chunk_at(row, lane),
                  weights + (exists ? weight_row * shape.ldw + input : 0), exists ? 16 : 0);
    }
  };
  const auto load_rows = [&](int slot, int stage, std::int64_t first_row) {
    const std::int64_t input = static_cast<std::int64_t>(stage) * kInputs + lane * kVector;
    HELIX_UNROLL
    for (int row = warp; row < kRows; row += kWarps) {
      const std::int64_t i = first_row + row;
      const bool exists = i < end && input < shape.k;
      std::int64_t from = 0;
      if (exists) {
        std::int64_t x_row = i;
        if constexpr (kGated) x_row = tokens[i];
        from = x_row * shape.k + input;
      }
      const Shared<BF16> to = rows_of(slot) + chunk_at(row, lane);
      if constexpr (kAligned) {
        cp_async_16(to, x + from, exists ? 16 : 0);
      } else {
        Vec<BF16, kVector> values;
        for (int j = 0; j < kVector; ++j) {
          values[j] = BF16{};
          if (exists && input + j < shape.k) values[j] = x[from + j];
        }
        to.template as<Vec<BF16, kVector>>()[0] = values;
      }
    }
  };

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
      const Shared<const BF16> stage_weights = weights_of(s % stages), stage_rows = rows_of(s % stages);
      HELIX_UNROLL
      for (int pair = 0; pair < 2; ++pair) {  // two steps of 16 inputs each
        const int chunk = warp * 8 + pair * 4;
        Vec<unsigned, 4> a[2][2];  // [step][set]
        HELIX_UNROLL
        for (int step = 0; step < 2; ++step) {
          HELIX_UNROLL
          for (int set = 0; set < 2; ++set) {
            a[step][set] =
                ldmatrix_x4(stage_weights + chunk_at(set * 16 + lane % 16, chunk + step * 2 + lane / 16));
          }
        }
        HELIX_UNROLL
        for (int tile = 0; tile < tiles; ++tile) {
          if (first_row + tile * 8 >= end) break;
          const Vec<unsigned, 4> b =
              ldmatrix_x4(stage_rows + chunk_at(tile * 8 + lane % 8, chunk + lane / 8));
          HELIX_UNROLL
          for (int step = 0; step < 2; ++step) {
            HELIX_UNROLL
            for (int set = 0; set < 2; ++set)
              mma_bf16(sums[set][tile], a[step][set], {b[2 * step], b[2 * step + 1]});
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
    for (int tile = warp; tile < tiles; tile += kWarps) {
      HELIX_UNROLL
      for (int element = 0; element < 4; ++element) {
        float total[2] = {};
        HELIX_UNROLL
        for (int set = 0; set < 2; ++set) {
          HELIX_UNROLL
          for (int of_warp = 0; of_warp < kWarps; ++of_warp) {
            const float part = partial[partial_at(of_warp, set, tile, element)];
            total[set] += part;
          }
        }
        // Element of m16n8: output lane / 4 (+ 8), row of x 2 (lane % 4) (+ 1).
        const std::int64_t row = first_row + tile * 8 + lane % 4 * 2 + element % 2;
        const std::int64_t column = first_column + lane / 4 + element / 2 * 8;
        if (row >= end) continue;
        if constexpr (kGated) {
          if (column < shape.columns)
            y[row * shape.columns + column] = to_bf16(swiglu_value(total[0], total[1]));
        } else {
          if (column < shape.columns) y[row * shape.columns + column] = total[0];
          if (column + 16 < shape.columns) y[row * shape.columns + column + 16] = total[1];
        }
      }
    }
    block_sync();  // the partial sums have been read
  }
}

template <int kRows, bool kGated, typename Y>
void product(Stream stream, std::int64_t most_active, const PackedWeight& w, const BF16* x,
             const MoeScratch& s, Y* y) {
  const ProductShape shape{.columns = kGated ? w.n / 2 : w.n,
                           .k = w.k,
                           .ldw = packed_ld(w.k),
                           .expert_stride = static_cast<std::int64_t>(w.stride_bytes / sizeof(BF16))};
  const auto kernel =
      vectorizable({x}, {w.k}) ? product_kernel<kRows, kGated, true> : product_kernel<kRows, kGated, false>;
  launch(
      kernel,
      Dim3(blocks_for(shape.columns, kGated ? kOutputs / 2 : kOutputs), static_cast<unsigned>(most_active)),
      Dim3(kThreads), Stages<kRows>::bytes, stream, shape, s.starts, s.active, s.active_count, s.tokens,
      reinterpret_cast<const BF16*>(w.data), x, y);
}

}  // namespace

void expert_products(Stream stream, std::int64_t batch, std::int64_t top_k, const BF16* x,
                     const PackedWeight& gate_up, const PackedWeight& down, const MoeScratch& scratch) {
  const std::int64_t assignments = batch * top_k;
  const std::int64_t most_active = gate_up.count < assignments ? gate_up.count : assignments;
  // Experts of a token are distinct, so that none has more rows than the batch.
  if (batch <= 8) {
    product<8, true>(stream, most_active, gate_up, x, scratch, scratch.activated);
    product<8, false>(stream, most_active, down, scratch.activated, scratch, scratch.expert_out);
  } else {
    product<32, true>(stream, most_active, gate_up, x, scratch, scratch.activated);
    product<32, false>(stream, most_active, down, scratch.activated, scratch, scratch.expert_out);
  }
}

}  // namespace helix::cuda
