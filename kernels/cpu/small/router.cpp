// Which experts a token goes to.
//   softmax_topk    p = softmax(logits + bias); the top_k largest; weights p (Mixtral, Qwen3-MoE, DeepSeek-V2, gpt-oss)
//   sigmoid_grouped DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): s = sigmoid(logits), choice = s + bias; a group
//                   scores the sum of its two best choices; of the top_groups best groups the top_k best choices;
//                   weights s, without the bias
//   softmax_grouped s = softmax(logits), a group scores its best choice (DeepSeek-V2, arXiv 2405.04434, section 2.2.2,
//                   without bias; ERNIE-4.5, one group); else the same
// then, with `normalize`, weights /= their sum + 1e-20, and weights *= scaling.
// The chosen experts come in falling order of choice; ties go to the lower expert (or group). NaN logits give
// NaN weights and valid ids.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/cpu/small/vector_exp.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

constexpr std::int64_t kMaxGroups = 64, kMaxGroupedExperts = 1024;
constexpr float kLeast = -std::numeric_limits<float>::infinity();

/// The `capacity` largest of the values offered so far, in falling order; earlier offers win ties.
struct TopList {
  std::int32_t* ids;
  float* values;
  std::int64_t capacity;
  std::int64_t count = 0;

  void offer(std::int32_t id, float value) {
    std::int64_t at = count;
    if (count == capacity) {
      if (!(value > values[count - 1])) return;
      at = count - 1;
    } else {
      ++count;
    }
    for (; at > 0 && value > values[at - 1]; --at) {
      ids[at] = ids[at - 1];
      values[at] = values[at - 1];
    }
    ids[at] = id;
    values[at] = value;
  }
};

float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}

/// The softmax over `logit(e)` of all experts.
struct Softmax {
  float largest = kLeast, total = 0.0f;

  template <typename Logit>
  Softmax(std::int64_t experts, const Logit& logit) {
    for (std::int64_t e = 0; e < experts; ++e) largest = std::max(largest, logit(e));
    for (std::int64_t e = 0; e < experts; ++e) total += std::exp(logit(e) - largest);
  }
  float operator()(float logit) const { return std::exp(logit - largest) / total; }
};

void choose_softmax(const RouterShape& shape, const float* logits, const float* bias, std::int32_t* ids,
                    float* weights) {
  const auto logit = [&](std::int64_t e) { return bias == nullptr ? logits[e] : logits[e] + bias[e]; };
  const Softmax softmax(shape.experts, logit);
  TopList best{ids, weights, shape.top_k};
  for (std::int64_t e = 0; e < shape.experts; ++e) best.offer(static_cast<std::int32_t>(e), logit(e));
  for (std::int64_t i = 0; i < shape.top_k; ++i) weights[i] = softmax(weights[i]);
}

/// sigmoid(logit) + bias of each expert. What a NaN's choice is does not matter: its weight is NaN.
HELIX_SIMD_CLONES void choices_of(std::int64_t experts, const float* logits, const float* bias,
                                  float* choices) {
  if (bias == nullptr) {
#pragma omp simd
    for (std::int64_t e = 0; e < experts; ++e) choices[e] = sigmoid_without_nan(logits[e]);
  } else {
#pragma omp simd
    for (std::int64_t e = 0; e < experts; ++e) choices[e] = sigmoid_without_nan(logits[e]) + bias[e];
  }
}

/// ids by `choices` [experts]. A group scores its best choice, or with `by_pairs` the sum of its two best.
void choose_grouped(const RouterShape& shape, const float* choices, bool by_pairs, std::int32_t* ids,
                    float* values) {
  const std::int64_t group_size = shape.experts / shape.groups;

  std::int32_t group_ids[kMaxGroups];
  float group_scores[kMaxGroups];
  TopList best_groups{group_ids, group_scores, shape.top_groups};
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    // Without branches, which would depend on random data.
    float first = kLeast, second = kLeast;
    for (std::int64_t e = g * group_size; e < (g + 1) * group_size; ++e) {
      second = std::max(second, std::min(first, choices[e]));
      first = std::max(first, choices[e]);
    }
    best_groups.offer(static_cast<std::int32_t>(g), by_pairs && group_size > 1 ? first + second : first);
  }
  bool kept[kMaxGroups] = {};
  for (std::int64_t i = 0; i < shape.top_groups; ++i) kept[group_ids[i]] = true;

  TopList best{ids, values, shape.top_k};
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    if (!kept[g]) continue;
    for (std::int64_t e = g * group_size; e < (g + 1) * group_size; ++e)
      best.offer(static_cast<std::int32_t>(e), choices[e]);
  }
}

void choose_sigmoid_grouped(const RouterShape& shape, const float* logits, const float* bias,
                            std::int32_t* ids, float* weights) {
  float choices[kMaxGroupedExperts];
  choices_of(shape.experts, logits, bias, choices);
  choose_grouped(shape, choices, true, ids, weights);
  for (std::int64_t i = 0; i < shape.top_k; ++i) weights[i] = sigmoid(logits[ids[i]]);
}

void choose_softmax_grouped(const RouterShape& shape, const float* logits, const float* bias,
                            std::int32_t* ids, float* weights) {
  const Softmax softmax(shape.experts, [&](std::int64_t e) { return logits[e]; });
  float choices[kMaxGroupedExperts];
  for (std::int64_t e = 0; e < shape.experts; ++e)
    choices[e] = softmax(logits[e]) + (bias == nullptr ? 0.0f : bias[e]);
  choose_grouped(shape, choices, false, ids, weights);
  for (std::int64_t i = 0; i < shape.top_k; ++i) weights[i] = softmax(logits[ids[i]]);
}

void check(const RouterShape& shape) {
  if (shape.groups < 1 || shape.groups > kMaxGroups || shape.experts % shape.groups != 0 ||
      shape.top_groups < 1 || shape.top_groups > shape.groups || shape.top_k < 1 ||
      shape.top_k > shape.experts / shape.groups * shape.top_groups) {
    throw std::invalid_argument("route: top_k and top_groups must fit 1 to 64 equal groups of experts");
  }
  if (shape.kind != RouterKind::softmax_topk && shape.experts > kMaxGroupedExperts)
    throw std::invalid_argument("route: a router of groups takes at most 1024 experts");
}

}  // namespace

void route(const RouterShape& shape, std::int64_t batch, const float* logits, const float* bias,
           std::int32_t* ids, float* weights, int threads) {
  check(shape);
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    const float* row = logits + b * shape.experts;
    std::int32_t* row_ids = ids + b * shape.top_k;
    float* row_weights = weights + b * shape.top_k;
    switch (shape.kind) {
      case RouterKind::softmax_topk:
        choose_softmax(shape, row, bias, row_ids, row_weights);
        break;
      case RouterKind::softmax_grouped:
        choose_softmax_grouped(shape, row, bias, row_ids, row_weights);
        break;
      case RouterKind::sigmoid_grouped:
        choose_sigmoid_grouped(shape, row, bias, row_ids, row_weights);
        break;
    }
    float factor = shape.scaling;
    if (shape.normalize) {
      float sum = 0.0f;
      for (std::int64_t i = 0; i < shape.top_k; ++i) sum += row_weights[i];
      factor /= sum + 1e-20f;
    }
    for (std::int64_t i = 0; i < shape.top_k; ++i) row_weights[i] *= factor;
  }
}

}  // namespace helix::cpu
