// How the ops of a step are stated: the bytes and FLOPs of each kind of op, the order, how often and where.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>
#include <vector>

#include "roofline/base/arithmetic.hpp"
#include "roofline/step/decode_ops.hpp"

namespace helix {

// RoPE and append are part of the attention op, top-k of the routed experts.
constexpr bool fused_on_gpu = true;

/// The ops of a layer in the order of their execution.
class OpList {
 public:
  /// `weights`: the format of the weights of products that name none.
  explicit OpList(const WeightFormat& weights = {}) : weights_(weights) {
    constexpr std::size_t longest_usual = 24;
    ops_.reserve(longest_usual);
  }

  /// Executions of each op added from here on.
  void repeat(double times) { repeat_ = times; }
  /// How tokens reach their experts.
  void only_if(Way way) { way_ = way; }
  /// Whether they may run at the time of the routed experts.
  void beside_routed(bool beside) { beside_routed_ = beside; }

  void add(Op op) {
    op.count = repeat_;
    op.way = way_;
    op.beside_routed = beside_routed_;
    ops_.push_back(op);
  }

  void gemm(std::string_view op, Phase phase, GemmShape s, const WeightFormat& weights,
            double out_bytes = bf16_bytes) {
    const double matrices = real(s.matrices);
    add({.name = op,
         .phase = phase,
         .shape = s,
         .dtype = weights.dtype,
         .bytes = {.weights = matrices * real(s.n * s.k) * weights.bytes,
                   .activations = matrices * real(s.m) * (real(s.k) * bf16_bytes + real(s.n) * out_bytes)},
         .flops = 2 * matrices * real(s.m) * real(s.n) * real(s.k),
         .block_scaled = has_block_scales(weights)});
  }
  void gemm(std::string_view op, Phase phase, GemmShape s) { gemm(op, phase, s, weights_); }

  void elementwise(std::string_view op, Phase phase, double bytes, bool fused = false) {
    add({.name = op,
         .phase = phase,
         .shape = ElementwiseShape{.fused_on_gpu = fused},
         .bytes = {.activations = bytes}});
  }

  /// No op in a group of one. Sent bytes are those of a ring, the least that a rank must send.
  void collective(std::string_view op, Phase phase, CollectiveShape s) {
    if (s.group <= 1) return;
    const double others = (s.group - 1.0) / s.group;
    const double sent = s.op == Collective::send ? 1 : s.op == Collective::all_reduce ? 2 * others : others;
    add({.name = op, .phase = phase, .shape = s, .wire_bytes = sent * s.payload_bytes});
  }

  /// Fused gate and up, SwiGLU, down; or, not gated, up, its activation, down.
  void ffn(std::array<std::string_view, 3> names, std::int64_t m, std::int64_t hidden, std::int64_t width,
           bool gated, const WeightFormat& weights, bool biases = false) {
    const std::int64_t inputs = gated ? 2 : 1;
    const auto bias = [&](std::int64_t n) {
      if (biases) elementwise("ffn bias", Phase::ffn, real(m * n) * 2 * bf16_bytes, fused_on_gpu);
    };
    gemm(names[0], Phase::ffn, {.m = m, .n = inputs * width, .k = hidden}, weights);
    bias(inputs * width);
    elementwise(names[1], Phase::ffn, real(m * width * (inputs + 1)) * bf16_bytes);
    gemm(names[2], Phase::ffn, {.m = m, .n = hidden, .k = width}, weights);
    bias(hidden);
  }

  std::vector<Op> take() { return std::move(ops_); }

 private:
  WeightFormat weights_;
  double repeat_ = 1;
  Way way_ = Way::every;
  bool beside_routed_ = false;
  std::vector<Op> ops_;
};

/// residual += delta, normalised: delta and result bf16, residual fp32 read and written.
inline double add_norm_bytes(std::int64_t rows, std::int64_t hidden) {
  return real(rows * hidden) * (2 * bf16_bytes + 2 * fp32_bytes);
}

/// Out of place, in bf16.
inline double norm_bytes(std::int64_t rows, std::int64_t width) {
  return real(rows * width) * 2 * bf16_bytes;
}

/// Is there an all-reduce after attention and FFN? On a GPU its kernel does the norm that follows.
inline bool all_reduces(const Sharding& sharding) {
  return sharding.stage_ranks() > 1 && !attends_whole_requests(sharding);
}

}  // namespace helix
