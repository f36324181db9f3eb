// Which experts a token goes to; the formulas are those of kernels/cpu/small/router.cpp. A warp takes a token: each
// lane keeps every 32nd expert, and the warp takes the best of what is left top_k times. NaN choices count as
// the lowest, so that the ids can be followed.
#include <stdexcept>

#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/numbers.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kTokensPerBlock = 4;
constexpr int kMaxGroups = 64;
constexpr int kMaxExperts = 32 * kWarp;  // a bit for each of a lane's experts

HELIX_DEVICE float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

/// The values of one warp: `count` floats, of which value i belongs to lane i % 32.
struct Candidates {
  Shared<const float> values;
  int count;
  unsigned taken = 0;  // bit j: this lane's value lane + 32 j is out

  HELIX_DEVICE void leave_out(int i) {
    if (i % kWarp == lane_index()) taken |= 1u << (i / kWarp);
  }

  /// Index of the largest value that is left, the lowest of equals; it is taken out.
  HELIX_DEVICE int take_best() {
    float best = 0.0f;
    int index = count;
    for (int i = lane_index(); i < count; i += kWarp) {
      if ((taken >> (i / kWarp)) & 1u) continue;
      const float raw = values[i];
      const float value = is_nan(raw) ? -INFINITY : raw;
      if (index == count || value > best) {
        best = value;
        index = i;
      }
    }
    HELIX_UNROLL
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const float value = shuffle_xor(best, mask);
      const int other = shuffle_xor(index, mask);
      if (other == count) continue;
      if (index == count || value > best || (value == best && other < index)) {
        best = value;
        index = other;
      }
    }
    leave_out(index);
    return index;
  }
};

/// The largest choice of one group, or with `by_pairs` the sum of its two largest.
HELIX_DEVICE float group_score(const Shared<const float>& choices, int begin, int size, bool by_pairs) {
  float best = choices[begin], second = -INFINITY;
  for (int e = begin + 1; e < begin + size; ++e) {
    const float x = choices[e];
    if (x > best) {
      second = best;
      best = x;
    } else if (x > second) {
      second = x;
    }
  }
  return by_pairs && size > 1 ? best + second : best;
}

/// What a token's logits become: a softmax over all of them, or the sigmoid of each.
struct Scores {
  bool of_softmax;
  float largest = 0.0f, total = 1.0f;

  HELIX_DEVICE float operator()(float logit) const {
    return of_softmax ? expf(logit - largest) / total : sigmoid(logit);
  }
};

/// The same in all lanes of the warp.
HELIX_DEVICE Scores scores_of(bool of_softmax, const Shared<const float>& logits, int experts) {
  Scores scores{of_softmax};
  if (!of_softmax) return scores;
  float largest = -INFINITY, part = 0.0f;
  for (int e = lane_index(); e < experts; e += kWarp) largest = fmaxf(largest, logits[e]);
  scores.largest = warp_max(largest);
  for (int e = lane_index(); e < experts; e += kWarp) part += expf(logits[e] - scores.largest);
  scores.total = warp_sum(part);
  return scores;
}

HELIX_KERNEL HELIX_BOUNDS(kTokensPerBlock* kWarp,
                          4) void route_kernel(RouterKind kind, int experts, int top_k, int groups,
                                               int top_groups, bool normalize, float scaling,
                                               std::int64_t batch, Global<const float> logits,
                                               Global<const float> bias, bool biased,
                                               Global<std::int32_t> ids, Global<float> weights) {
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kTokensPerBlock + warp_index();
  if (b >= batch) return;  // the whole warp; the block never meets again
  const int lane = lane_index();
  const Shared<float> choices = shared_memory<float>() + warp_index() * (experts + kMaxGroups);
  const Shared<float> of_groups = choices + experts;
  const bool grouped = kind != RouterKind::softmax_topk, of_softmax = kind != RouterKind::sigmoid_grouped;
  const Global<const float> row = logits + b * experts;

  for (int e = lane; e < experts; e += kWarp) {
    float logit = row[e];
    if (biased && !grouped) logit += bias[e];
    choices[e] = logit;
  }
  warp_sync();
  const Scores score = scores_of(of_softmax, choices, experts);
  if (grouped) {
    for (int e = lane; e < experts; e += kWarp) {
      float offset = 0.0f;
      if (biased) offset = bias[e];
      choices[e] = score(choices[e]) + offset;
    }
    warp_sync();
  }

  Candidates candidates{choices, experts};
  if (grouped) {
    const int size = experts / groups;
    for (int g = lane; g < groups; g += kWarp)
      of_groups[g] = group_score(choices, g * size, size, !of_softmax);
    warp_sync();
    Candidates kept_groups{of_groups, groups};
    for (int i = 0; i < top_groups; ++i) kept_groups.take_best();
    // A group that was not taken leaves its experts out. Lane l knows about groups l and l + 32.
    const unsigned low = ballot((kept_groups.taken & 1u) != 0), high = ballot((kept_groups.taken & 2u) != 0);
    for (int e = lane; e < experts; e += kWarp) {
      const int g = e / size;
      const bool kept = ((g < kWarp ? low >> g : high >> (g - kWarp)) & 1u) != 0;
      if (!kept) candidates.leave_out(e);
    }
  }

  // Lane i keeps the i-th choice.
  int id = 0;
  for (int i = 0; i < top_k; ++i) {
    const int best = candidates.take_best();
    if (lane == i) id = best;
  }
  float weight = 0.0f;
  if (lane < top_k) {
    const float logit = row[id], choice = choices[id];
    weight = score(grouped ? logit : choice);
  }
  const float factor = normalize ? scaling / (warp_sum(weight) + 1e-20f) : scaling;
  if (lane < top_k) {
    ids[b * top_k + lane] = id;
    weights[b * top_k + lane] = weight * factor;
  }
}

void check(const RouterShape& shape) {
  if (shape.groups < 1 || shape.groups > kMaxGroups || shape.experts % shape.groups != 0 ||
      shape.top_groups < 1 || shape.top_groups > shape.groups || shape.top_k < 1 || shape.top_k > kWarp ||
      shape.experts > kMaxExperts || shape.top_k > shape.experts / shape.groups * shape.top_groups) {
    throw std::invalid_argument(
        "route: top_k (up to 32) and top_groups must fit 1 to 64 equal groups of up to 1024 experts");
  }
}

}  // namespace

void route(Stream stream, const RouterShape& shape, std::int64_t batch, const float* logits,
           const float* bias, std::int32_t* ids, float* weights) {
  check(shape);
  const auto shared =
      static_cast<std::size_t>(kTokensPerBlock * (shape.experts + kMaxGroups)) * sizeof(float);
  launch(route_kernel, Dim3(blocks_for(batch, kTokensPerBlock)), Dim3(kTokensPerBlock * kWarp), shared,
         stream, shape.kind, static_cast<int>(shape.experts), static_cast<int>(shape.top_k),
         static_cast<int>(shape.groups), static_cast<int>(shape.top_groups), shape.normalize, shape.scaling,
         batch, logits, bias, bias != nullptr, ids, weights);
}

}  // namespace helix::cuda
