// The phases of a decode step; measured and predicted times are broken down the same way.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace helix {

enum class Phase {
  attn,            // flash-decode over the local KV shard
  a2a,             // all-to-all of partial outputs over KVP
  merge,           // packing and log-sum-exp merge
  attn_proj,       // norms, QKV and output projections, RoPE, append, MLA's W_UK / W_UV
  attn_allreduce,  // all-reduce after the output projection
  ffn,             // norm, dense SwiGLU or router + experts
  ffn_comm,        // all-reduce / combine after the FFN
  head,            // embedding, final norm, LM head, argmax and their collectives
};
inline constexpr std::size_t phase_count = 8;
inline constexpr std::array<std::string_view, phase_count> phase_names = {
    "attn", "a2a", "merge", "attn_proj", "attn_allreduce", "ffn", "ffn_comm", "head"};

/// Microseconds per phase.
struct PhaseTimes {
  std::array<double, phase_count> us{};
  double& operator[](Phase p) { return us[static_cast<std::size_t>(p)]; }
  double operator[](Phase p) const { return us[static_cast<std::size_t>(p)]; }
  double total() const {
    double sum = 0;
    for (double t : us) sum += t;
    return sum;
  }
};

}  // namespace helix
