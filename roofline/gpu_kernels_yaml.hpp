// The `gpu` section of a system file.
#pragma once

#include "roofline/gpu_kernels.hpp"
#include "roofline/yaml_map.hpp"

namespace helix {

struct DescribeGpu {
  static constexpr yaml::Limits time_us{0, 1e4};
  static constexpr yaml::Limits share{0, 1};
  static constexpr yaml::Limits bytes{0, 1e15};
  static constexpr yaml::Limits count{0, 1e5};

  void operator()(auto& io, auto& gpu) const {
    io.section("common", gpu.common, [](auto& in, auto& c) {
      in.number("kernel_us", c.kernel_us, time_us);
      in.number("elementwise_efficiency", c.elementwise_efficiency, share);
      in.number("dram_fill_bytes", c.dram_fill_bytes, {1, 1e12});
      in.number("l2_bytes", c.l2_bytes, {1, 1e12});
    });
    io.list("gemm", gpu.gemm, [](auto& in, auto& g) {
      in.text("dtype", g.dtype);
      in.number("isolated_us", g.isolated_us, time_us);
      in.number("tile_n", g.tile_n, {1, 1e4});
      in.number("k_us", g.k_us, time_us);
      in.number("split_k_min", g.split_k_min, {0, 1e6});
      in.number("split_us", g.split_us, time_us);
      in.number("efficiency", g.efficiency, share);
      in.number("dram_latency_us", g.dram_latency_us, time_us);
      in.number("input_bytes", g.input_bytes, count);
      in.number("input_us", g.input_us, time_us);
      in.number("warm_hits", g.warm_hits, share);
    });
    io.section("gqa", gpu.gqa, [](auto& in, auto& g) {
      in.number("isolated_us", g.isolated_us, time_us);
      in.number("kernels", g.kernels, count);
      in.number("efficiency", g.efficiency, share);
      in.number("narrow_row_efficiency", g.narrow_row_efficiency, {0.01, 1});
      in.number("dram_latency_us", g.dram_latency_us, time_us);
      in.number("sm_score_rows_per_s", g.sm_score_rows_per_s, {1, 1e15});
      in.number("split_tokens", g.split_tokens, {1, 1e6});
      in.number("split_us", g.split_us, time_us);
      in.number("warm_bytes_per_s", g.warm_bytes_per_s, {1, 1e15});
      in.number("warm_bytes", g.warm_bytes, bytes);
      in.number("warm_width_bytes", g.warm_width_bytes, {1, 1e12});
    });
    io.section("mla", gpu.mla, [](auto& in, auto& g) {
      in.number("isolated_us", g.isolated_us, time_us);
      in.number("isolated_bf16_us", g.isolated_bf16_us, time_us);
      in.number("kernels", g.kernels, count);
      in.number("dram_latency_us", g.dram_latency_us, time_us);
      in.number("split_tokens", g.split_tokens, {1, 1e6});
      in.number("max_splits", g.max_splits, {1, 1e6});
      in.number("split_us", g.split_us, time_us);
      in.number("split_head_share", g.split_head_share, count);
      in.number("occupancy_floor", g.occupancy_floor, {0.01, 1});
      in.number("head_bytes_bf16", g.head_bytes_bf16, bytes);
      in.number("head_bytes_fp8", g.head_bytes_fp8, bytes);
      in.number("warm_bytes_per_s", g.warm_bytes_per_s, {1, 1e15});
      in.number("warm_bytes", g.warm_bytes, bytes);
      in.number("warm_width_bytes", g.warm_width_bytes, {1, 1e12});
      in.list("tiles", g.tiles, [](auto& tile_io, auto& t) {
        tile_io.number("heads", t.heads, {1, 1e5});
        tile_io.number("bf16_efficiency", t.bf16_efficiency, {0.01, 1});
        tile_io.number("fp8_efficiency", t.fp8_efficiency, {0.01, 1});
      });
    });
    io.list("moe", gpu.moe, [](auto& in, auto& g) {
      in.text("kernel", g.kernel);
      in.text("dtype", g.dtype);
      in.flag("gated", g.gated);
      in.number("isolated_us", g.isolated_us, time_us);
      in.number("kernels", g.kernels, count);
      in.number("tile_n", g.tile_n, {1, 1e4});
      in.number("k_us", g.k_us, time_us);
      in.number("efficiency", g.efficiency, {0.01, 1});
      in.number("local_expert_us", g.local_expert_us, time_us);
      in.number("active_expert_us", g.active_expert_us, time_us);
      in.number("permute_bytes_per_s", g.permute_bytes_per_s, {1, 1e15});
    });
    io.list("library_collectives", gpu.library_collectives, [](auto& in, auto& c) {
      in.text("op", c.op);
      in.number("base_us", c.base_us, time_us);
      in.number("step_us", c.step_us, time_us);
      in.number("octave_us", c.octave_us, time_us);
      in.number("small_bytes_per_s", c.small_bytes_per_s, {1, 1e15});
      in.number("small_limit_bytes", c.small_limit_bytes, bytes);
      in.number("ring_base_us", c.ring_base_us, time_us);
      in.number("ring_step_us", c.ring_step_us, time_us);
      in.number("ring_efficiency", c.ring_efficiency, {0.01, 1});
      in.number("ring_ranks_lost", c.ring_ranks_lost, count);
      in.number("norm", c.norm, {1, 100});
    });
    io.section("one_shot", gpu.one_shot, [](auto& in, auto& c) {
      in.number("base_us", c.base_us, time_us);
      in.number("octave_us", c.octave_us, time_us);
      in.number("efficiency", c.efficiency, {0.01, 1});
    });
  }
};

}  // namespace helix
