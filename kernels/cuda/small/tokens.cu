// Both ends of a decode step: the token's embedding going in, the greedy choice of the next one coming out.
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/numbers.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kArgmaxThreads = 1024;

template <int V>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void embed_kernel(std::int64_t hidden,
                                                         Global<const std::int32_t> tokens,
                                                         Global<const BF16> table, std::int64_t first,
                                                         std::int64_t rows, Global<BF16> out) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= hidden) return;
  const std::int64_t b = blockIdx.y;
  const std::int32_t token = tokens[b];
  const std::int64_t row = token - first;
  Vec<BF16, V> x = {};
  if (row >= 0 && row < rows) x = load<V>(table, row * hidden + i);
  store<V>(out, b * hidden + i, x);
}

/// Where the largest of some values is: NaN above every number, ties to the lower index.
struct Best {
  float value;
  std::int64_t index;  // < 0: none yet

  HELIX_DEVICE void offer(float other, std::int64_t at) {
    if (at < 0) return;
    const bool larger = other > value || (is_nan(other) && !is_nan(value));
    const bool smaller = value > other || (is_nan(value) && !is_nan(other));
    if (index < 0 || larger || (!smaller && at < index)) {
      value = other;
      index = at;
    }
  }
};

HELIX_KERNEL HELIX_BOUNDS(kArgmaxThreads, 1) void argmax_kernel(std::int64_t cols, Global<const float> logits,
                                                                std::int64_t first_index,
                                                                Global<TopLogit> top) {
  const std::int64_t row = blockIdx.x;
  Best best{0.0f, -1};
  for (std::int64_t i = threadIdx.x; i < cols; i += kArgmaxThreads) {
    const float x = logits[row * cols + i];
    best.offer(x, i);
  }
  // A row is far shorter than 2^31, so that the index travels in 4 bytes.
  const auto reduce = [&best]() {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const float value = shuffle_xor(best.value, mask);
      const int index = shuffle_xor(static_cast<int>(best.index), mask);
      best.offer(value, index);
    }
  };
  const Shared<TopLogit> of_warp = shared_memory<TopLogit>();
  reduce();
  if (lane_index() == 0) of_warp[warp_index()] = TopLogit{best.value, static_cast<std::int32_t>(best.index)};
  block_sync();
  if (warp_index() != 0) return;
  static_assert(kArgmaxThreads / kWarp == kWarp, "one warp reduces the results of all");
  const TopLogit mine = of_warp[lane_index()];
  best = {mine.value, mine.index};
  reduce();
  if (lane_index() != 0) return;
  top[row] = best.index < 0 ? TopLogit{-INFINITY, -1}
                            : TopLogit{best.value, static_cast<std::int32_t>(best.index + first_index)};
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 1) void select_token_kernel(std::int64_t parts, std::int64_t batch,
                                                                Global<const TopLogit> gathered,
                                                                Global<std::int32_t> tokens) {
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b >= batch) return;
  Best best{0.0f, -1};
  for (std::int64_t part = 0; part < parts; ++part) {
    const TopLogit candidate = gathered[part * batch + b];
    best.offer(candidate.value, candidate.index);
  }
  tokens[b] = static_cast<std::int32_t>(best.index);
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 1) void advance_kernel(std::int64_t batch, Append append, bool moves,
                                                           Global<std::int64_t> positions,
                                                           Global<std::int64_t> slots,
                                                           Global<std::int64_t> lengths) {
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b >= batch) return;
  if (append != Append::none) {
    const std::int64_t length = lengths[b], next = slots[b] + 1;
    slots[b] = append == Append::grows ? length : next < length ? next : 0;
    if (append == Append::grows) lengths[b] = length + 1;
  }
  if (moves) {
    const std::int64_t position = positions[b];
    positions[b] = position + 1;
  }
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 1) void advance_rows_kernel(
    std::int64_t batch, std::int64_t query_tokens, AppendTurns turns, Global<std::int64_t> decoded,
    Global<const std::int64_t> accepted, Global<std::int64_t> positions, Global<std::int64_t> slots,
    Global<std::int64_t> lengths) {
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (b >= batch) return;
  const std::int64_t before = decoded[b] + accepted[b];
  decoded[b] = before;
  for (std::int64_t j = 0; j < query_tokens; ++j) {
    const std::int64_t row = b * query_tokens + j, token = before + j;
    const std::int64_t length = turns.history + turns.kept(token + 1);
    positions[row] = turns.context + token;
    lengths[row] = length;
    slots[row] = turns.mine(token) ? length - 1 : -1;
  }
}

/// Widths and strides in values of two bytes.
template <int V>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void copy_rows_kernel(std::int64_t width, Global<const BF16> from,
                                                             std::int64_t from_stride, Global<BF16> to,
                                                             std::int64_t to_stride, bool counted,
                                                             Global<const std::int64_t> counts) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= width) return;
  const std::int64_t row = blockIdx.y, skipped = counted ? (counts[row] - 1) * width : 0;
  store<V>(to, row * to_stride + i, load<V>(from, row * from_stride + skipped + i));
}

}  // namespace

void embed(Stream stream, std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens,
           const BF16* table, std::int64_t first, std::int64_t rows, BF16* out) {
  const bool vectors = vectorizable({table, out}, {hidden});
  const std::int64_t items = vectors ? hidden / kVector : hidden;
  launch(vectors ? embed_kernel<kVector> : embed_kernel<1>,
         Dim3(blocks_for(items, kThreads), static_cast<unsigned>(batch)), Dim3(kThreads), 0, stream, hidden,
         tokens, table, first, rows, out);
}

void argmax(Stream stream, std::int64_t batch, std::int64_t cols, const float* logits,
            std::int64_t first_index, TopLogit* top) {
  launch(argmax_kernel, Dim3(static_cast<unsigned>(batch)), Dim3(kArgmaxThreads),
         kArgmaxThreads / kWarp * sizeof(TopLogit), stream, cols, logits, first_index, top);
}

void select_token(Stream stream, std::int64_t parts, std::int64_t batch, const TopLogit* gathered,
                  std::int32_t* tokens) {
  launch(select_token_kernel, Dim3(blocks_for(batch, kThreads)), Dim3(kThreads), 0, stream, parts, batch,
         gathered, tokens);
}

void advance(Stream stream, std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
             std::int64_t* lengths) {
  launch(advance_kernel, Dim3(blocks_for(batch, kThreads)), Dim3(kThreads), 0, stream, batch, append,
         positions != nullptr, positions, slots, lengths);
}

void advance_rows(Stream stream, std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                  const StepState& state) {
  launch(advance_rows_kernel, Dim3(blocks_for(batch, kThreads)), Dim3(kThreads), 0, stream, batch,
         query_tokens, turns, state.decoded, state.accepted, state.positions, state.slots, state.lengths);
}

void copy_rows(Stream stream, const CopiedRows& c) {
  constexpr int word = 2;  // values of four bytes
  const auto values = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes / sizeof(BF16)); };
  const std::int64_t width = values(c.bytes), from = values(c.from_stride), to = values(c.to_stride);
  const bool vectors = vectorizable({c.from, c.to}, {width, from, to});
  launch(vectors ? copy_rows_kernel<kVector> : copy_rows_kernel<word>,
         Dim3(blocks_for(width / (vectors ? kVector : word), kThreads), static_cast<unsigned>(c.rows)),
         Dim3(kThreads), 0, stream, width, static_cast<const BF16*>(c.from), from, static_cast<BF16*>(c.to),
         to, c.counts != nullptr, c.counts);
}

}  // namespace helix::cuda
