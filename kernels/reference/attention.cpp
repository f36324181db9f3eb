#include "kernels/reference/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace helix {

void reference_attention(const ReferenceAttention& p, const double* q, double* o, double* lse) {
  std::vector<double> logits(static_cast<std::size_t>(p.tokens));
  for (std::int64_t h = 0; h < p.q_heads; ++h) {
    const std::int64_t kv_head = h / (p.q_heads / p.kv_heads);
    double max = -std::numeric_limits<double>::infinity();
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      double dot = 0.0;
      for (std::int64_t d = 0; d < p.head_dim; ++d) dot += q[h * p.head_dim + d] * p.k(t, kv_head, d);
      logits[t] = p.scale * dot;
      max = std::max(max, logits[t]);
    }
    if (p.tokens == 0) {
      lse[h] = max;
      continue;
    }
    double sum = 0.0;
    std::fill_n(o + h * p.v_dim, p.v_dim, 0.0);
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      const double weight = std::exp(logits[t] - max);
      sum += weight;
      for (std::int64_t d = 0; d < p.v_dim; ++d) o[h * p.v_dim + d] += weight * p.v(t, kv_head, d);
    }
    for (std::int64_t d = 0; d < p.v_dim; ++d) o[h * p.v_dim + d] /= sum;
    lse[h] = max + std::log(sum);
  }
}

}  // namespace helix
