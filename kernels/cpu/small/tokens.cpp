// Both ends of a decode step: the token's embedding going in, the greedy choice of the next one coming out.
// argmax reads 4 bytes a logit: the largest value of a block is found first (vectorised), and only a block
// that beats the best so far is searched for its index.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t kBlock = 2048;

/// Largest of x[0:n], NaN if there is one.
HELIX_SIMD_CLONES float largest(std::int64_t n, const float* x) {
  float best = -std::numeric_limits<float>::infinity();
  int nans = 0;
#pragma omp simd reduction(max : best) reduction(+ : nans)
  for (std::int64_t i = 0; i < n; ++i) {
    best = x[i] > best ? x[i] : best;
    nans += x[i] != x[i];
  }
  return nans == 0 ? best : std::numeric_limits<float>::quiet_NaN();
}

/// NaN above every number.
bool beats(float a, float b) {
  return a > b || (std::isnan(a) && !std::isnan(b));
}

TopLogit argmax_row(std::int64_t cols, const float* x) {
  TopLogit best{x[0], 0};
  for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
    const std::int64_t n = std::min(kBlock, cols - begin);
    if (!beats(largest(n, x + begin), best.value)) continue;
    for (std::int64_t i = begin; i < begin + n; ++i) {
      if (beats(x[i], best.value)) best = {x[i], static_cast<std::int32_t>(i)};
    }
  }
  return best;
}

}  // namespace

void embed(std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens, const BF16* table,
           std::int64_t first, std::int64_t rows, BF16* out) {
  const auto row_bytes = static_cast<std::size_t>(hidden) * sizeof(BF16);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t row = tokens[b] - first;
    if (row >= 0 && row < rows) {
      std::memcpy(out + b * hidden, table + row * hidden, row_bytes);
    } else {
      std::memset(static_cast<void*>(out + b * hidden), 0, row_bytes);
    }
  }
}

void argmax(std::int64_t batch, std::int64_t cols, const float* logits, std::int64_t first_index,
            TopLogit* top, int threads) {
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    if (cols == 0) {
      top[b] = {-std::numeric_limits<float>::infinity(), -1};
      continue;
    }
    top[b] = argmax_row(cols, logits + b * cols);
    top[b].index += static_cast<std::int32_t>(first_index);
  }
}

void select_token(std::int64_t parts, std::int64_t batch, const TopLogit* gathered, std::int32_t* tokens) {
  for (std::int64_t b = 0; b < batch; ++b) {
    TopLogit best{0.0f, -1};
    for (std::int64_t part = 0; part < parts; ++part) {
      const TopLogit& candidate = gathered[part * batch + b];
      if (candidate.index < 0) continue;
      const bool tie = !beats(candidate.value, best.value) && !beats(best.value, candidate.value);
      if (best.index < 0 || beats(candidate.value, best.value) || (tie && candidate.index < best.index)) {
        best = candidate;
      }
    }
    tokens[b] = best.index;
  }
}

void advance(std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
             std::int64_t* lengths) {
  for (std::int64_t b = 0; b < batch; ++b) {
    if (append == Append::grows) slots[b] = lengths[b]++;
    if (append == Append::replaces) slots[b] = slots[b] + 1 < lengths[b] ? slots[b] + 1 : 0;
    if (positions != nullptr) ++positions[b];
  }
}

void advance_rows(std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                  const StepState& state) {
  for (std::int64_t b = 0; b < batch; ++b) {
    state.decoded[b] += state.accepted[b];
    for (std::int64_t j = 0; j < query_tokens; ++j) {
      const std::int64_t row = b * query_tokens + j, token = state.decoded[b] + j;
      state.positions[row] = turns.context + token;
      state.lengths[row] = turns.history + turns.kept(token + 1);
      state.slots[row] = turns.mine(token) ? state.lengths[row] - 1 : -1;
    }
  }
}

void copy_rows(const CopiedRows& c) {
  const auto* from = static_cast<const std::byte*>(c.from);
  auto* to = static_cast<std::byte*>(c.to);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const auto row = static_cast<std::size_t>(r);
    const std::size_t skipped = c.counts == nullptr ? 0 : static_cast<std::size_t>(c.counts[r] - 1) * c.bytes;
    std::memcpy(to + row * c.to_stride, from + row * c.from_stride + skipped, c.bytes);
  }
}

}  // namespace helix::cpu
