// Attention in fp64 with plain loops: what every fast path is held against.
#pragma once

#include <cstdint>
#include <functional>

namespace helix {

/// Value `dim` of token `token`'s row for KV head `head`.
using KvRows = std::function<double(std::int64_t token, std::int64_t head, std::int64_t dim)>;

struct ReferenceAttention {
  std::int64_t tokens = 0, q_heads = 0, kv_heads = 0, head_dim = 0, v_dim = 0;
  double scale = 1.0;
  KvRows k, v;
};

/// One request: q [q_heads, head_dim] -> o [q_heads, v_dim] and lse [q_heads] (natural logarithm). Query head
/// h reads KV head h / (q_heads / kv_heads). No token: lse = -inf and o is left unwritten.
void reference_attention(const ReferenceAttention& problem, const double* q, double* o, double* lse);

}  // namespace helix
