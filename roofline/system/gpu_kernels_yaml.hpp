// The `gpu` section of a system file.
#pragma once

#include <array>
#include <utility>

#include "roofline/base/yaml_map.hpp"
#include "roofline/system/gpu_kernels.hpp"

namespace helix {

constexpr std::array kernel_formats = {
    std::pair{KernelFormat::bf16, std::string_view("bfloat16")},
    std::pair{KernelFormat::fp8, std::string_view("fp8")},
    std::pair{KernelFormat::fp8_block, std::string_view("fp8_block")},
    std::pair{KernelFormat::nvfp4, std::string_view("nvfp4")},
    std::pair{KernelFormat::w4a16_mxfp4, std::string_view("w4a16_mxfp4")},
    std::pair{KernelFormat::w4a8_mxfp4_mxfp8, std::string_view("w4a8_mxfp4_mxfp8")},
};

constexpr std::array moe_kernels = {
    std::pair{MoeKernel::tf_min_latency, std::string_view("tf_min_latency")},
    std::pair{MoeKernel::tf_cutlass, std::string_view("tf_cutlass")},
    std::pair{MoeKernel::tf_nongated, std::string_view("tf_nongated")},
    std::pair{MoeKernel::tf, std::string_view("tf")},
    std::pair{MoeKernel::deepgemm, std::string_view("deepgemm")},
    std::pair{MoeKernel::triton, std::string_view("triton")},
};

constexpr std::array collective_ops = {
    std::pair{Collective::all_reduce, std::string_view("all_reduce")},
    std::pair{Collective::all_gather, std::string_view("all_gather")},
    std::pair{Collective::reduce_scatter, std::string_view("reduce_scatter")},
    std::pair{Collective::all_to_all, std::string_view("all_to_all")},
    std::pair{Collective::send, std::string_view("send")},
};

constexpr std::array engine_names = {
    std::pair{Engine::none, std::string_view("none")},
    std::pair{Engine::trtllm, std::string_view("trtllm")},
    std::pair{Engine::vllm, std::string_view("vllm")},
    std::pair{Engine::sglang, std::string_view("sglang")},
};

constexpr std::array exchange_copies = {
    std::pair{GpuExpertExchange::Copies::each_expert, std::string_view("each_expert")},
    std::pair{GpuExpertExchange::Copies::each_rank, std::string_view("each_rank")},
};

constexpr std::array attention_units = {
    std::pair{GpuGqa::Unit::tensor_cores, std::string_view("tensor_cores")},
    std::pair{GpuGqa::Unit::cuda_cores, std::string_view("cuda_cores")},
};

constexpr std::array attention_caches = {
    std::pair{GpuGqa::Cache::any, std::string_view("any")},
    std::pair{GpuGqa::Cache::bf16, std::string_view("bf16")},
    std::pair{GpuGqa::Cache::quantised, std::string_view("quantised")},
};

struct DescribeGpu {
  static constexpr yaml::Limits time_us{0, 1e4};
  static constexpr yaml::Limits share{0, 1};
  static constexpr yaml::Limits some_share{0.01, 1};
  static constexpr yaml::Limits bytes{0, 1e15};
  static constexpr yaml::Limits rate{1, 1e15};
  static constexpr yaml::Limits count{0, 1e5};
  static constexpr auto optional = yaml::Presence::optional;

  static constexpr yaml::Limits percent{0, 1e3};

  static void exchange_phase(auto& io, auto& p) {
    io.number("base_us", p.base_us, time_us);
    io.number("hidden_us", p.hidden_us, time_us);
    io.number("efficiency", p.efficiency, {1e-3, 10});
    io.number("norm", p.norm, {1, 100});
    io.number("loop_base_us", p.loop_base_us, time_us);
    io.number("loop_narrow_us", p.loop_narrow_us, time_us, optional);
    io.number("error_percent", p.error_percent, percent, optional);
  }

  static void warm_cache(auto& io, auto& w) {
    io.number("warm_bytes_per_s", w.bytes_per_s, rate);
    io.number("warm_bytes", w.bytes, bytes);
    io.number("warm_width_bytes", w.width_bytes, {1, 1e12});
  }

  void operator()(auto& io, auto& gpu) const {
    io.section("common", gpu.common, [](auto& in, auto& c) {
      in.number("kernel_us", c.kernel_us, time_us);
      in.number("elementwise_efficiency", c.elementwise_efficiency, some_share);
      in.number("dram_fill_bytes", c.dram_fill_bytes, {1, 1e12});
      in.number("l2_bytes", c.l2_bytes, {1, 1e12});
    });
    io.list("gemm", gpu.gemm, [](auto& in, auto& g) {
      in.choice("dtype", g.format, kernel_formats);
      in.number("tile_n", g.tile_n, {1, 1e4});
      in.number("k_us", g.k_us, time_us);
      in.number("split_k_min", g.split_k_min, {0, 1e6});
      in.number("split_us", g.split_us, time_us);
      in.number("efficiency", g.efficiency, some_share);
      in.number("compute_efficiency", g.compute_efficiency, some_share, optional);
      in.number("dram_latency_us", g.dram_latency_us, time_us);
      in.number("input_bytes", g.input_bytes, count);
      in.number("input_us", g.input_us, time_us);
      in.number("norm", g.norm, {1, 100}, optional);
      in.number("error_percent", g.error_percent, percent, optional);
      in.section("loop", g.loop, [](auto& loop_io, auto& loop) {
        loop_io.number("fixed_us", loop.fixed_us, time_us);
        loop_io.number("warm_hits", loop.warm_hits, share);
      });
    });
    io.list("gqa", gpu.gqa, [](auto& in, auto& g) {
      in.choice("unit", g.unit, attention_units);
      in.choice("cache", g.cache, attention_caches);
      in.number("least_group", g.least_group, {1, 1e5}, optional);
      in.number("largest_group", g.largest_group, {1, 1e5}, optional);
      in.number("kernels", g.kernels, count);
      in.number("efficiency", g.efficiency, some_share);
      in.number("narrow_row_efficiency", g.narrow_row_efficiency, some_share);
      in.number("dram_latency_us", g.dram_latency_us, time_us);
      in.number("sm_rows_per_s", g.sm_rows_per_s, rate);
      in.number("split_rate", g.split_rate, {0.01, 10});
      in.number("split_tokens", g.split_tokens, {1, 1e6});
      in.number("split_us", g.split_us, time_us);
      in.number("error_percent", g.error_percent, percent, optional);
      in.section("loop", g.loop, [](auto& loop_io, auto& loop) {
        loop_io.number("fixed_us", loop.fixed_us, time_us);
        warm_cache(loop_io, loop.warm);
      });
    });
    io.section("mla", gpu.mla, [](auto& in, auto& g) {
      in.number("kernels", g.kernels, count);
      in.number("dram_latency_us", g.dram_latency_us, time_us);
      in.number("bf16_compute_efficiency", g.bf16_compute_efficiency, some_share);
      in.number("fp8_compute_efficiency", g.fp8_compute_efficiency, some_share);
      in.number("split_tokens", g.split_tokens, {1, 1e6});
      in.number("max_splits", g.max_splits, {1, 1e6});
      in.number("split_us", g.split_us, time_us);
      in.number("split_exponent", g.split_exponent, {0, 2});
      in.number("split_head_share", g.split_head_share, count);
      in.number("occupancy_exponent", g.occupancy_exponent, {0, 2});
      in.number("occupancy_floor", g.occupancy_floor, some_share);
      in.number("head_bytes_bf16", g.head_bytes_bf16, bytes);
      in.number("head_bytes_fp8", g.head_bytes_fp8, bytes);
      in.number("error_percent", g.error_percent, percent, optional);
      in.list("tiles", g.tiles, [](auto& tile_io, auto& t) {
        tile_io.number("heads", t.heads, {1, 1e5});
        tile_io.number("blocks", t.blocks, {1, 1e5});
        tile_io.number("bf16_efficiency", t.bf16_efficiency, some_share);
        tile_io.number("fp8_efficiency", t.fp8_efficiency, some_share);
      });
      in.section("loop", g.loop, [](auto& loop_io, auto& loop) {
        loop_io.number("fixed_us", loop.fixed_us, time_us);
        loop_io.number("bf16_us", loop.bf16_us, time_us);
        warm_cache(loop_io, loop.warm);
      });
    });
    io.list("sparse_attention", gpu.sparse_attention, [](auto& in, auto& a) {
      in.text("kernel", a.kernel);
      in.choice("cache", a.cache, attention_caches);
      in.number("row_values", a.row_values, {1, 1e5});
      in.number("kernels", a.kernels, count);
      in.number("gather_efficiency", a.gather_efficiency, some_share);
      in.number("compute_efficiency", a.compute_efficiency, some_share);
      in.number("head_us", a.head_us, time_us);
      in.number("error_percent", a.error_percent, percent, optional);
      in.section("loop", a.loop, [](auto& loop_io, auto& loop) {
        loop_io.number("fixed_us", loop.fixed_us, time_us);
        loop_io.number("quantise_us", loop.quantise_us, time_us);
        loop_io.number("weight_efficiency", loop.weight_efficiency, some_share);
      });
    });
    io.list("indexers", gpu.indexers, [](auto& in, auto& x) {
      in.number("tokens_per_key", x.tokens_per_key, {1, 1e5});
      in.number("kernels", x.kernels, count);
      in.number("key_efficiency", x.key_efficiency, some_share);
      in.number("key_us", x.key_us, time_us);
      in.number("sort_us", x.sort_us, time_us);
      in.number("sort_keys", x.sort_keys, bytes);
      in.section("loop", x.loop,
                 [](auto& loop_io, auto& loop) { loop_io.number("fixed_us", loop.fixed_us, time_us); });
    });
    io.list("moe", gpu.moe, [](auto& in, auto& g) {
      in.choice("kernel", g.kernel, moe_kernels);
      in.choice("dtype", g.format, kernel_formats);
      in.flag("gated", g.gated);
      in.number("kernels", g.kernels, count);
      in.number("tile_n", g.tile_n, {1, 1e4});
      in.number("most_tile_tokens", g.most_tile_tokens, {0, 1e4}, optional);
      in.number("k_us", g.k_us, time_us);
      in.number("tile_us", g.tile_us, time_us, optional);
      in.number("small_step_tokens", g.small_step_tokens, count, optional);
      in.number("efficiency", g.efficiency, some_share);
      in.number("compute_efficiency", g.compute_efficiency, some_share, optional);
      in.number("norm", g.norm, {1, 100}, optional);
      in.number("wave_us", g.wave_us, time_us, optional);
      in.number("local_expert_us", g.local_expert_us, time_us);
      in.number("active_expert_us", g.active_expert_us, time_us);
      in.number("permute_bytes_per_s", g.permute_bytes_per_s, rate);
      in.number("error_percent", g.error_percent, percent, optional);
      in.section("loop", g.loop,
                 [](auto& loop_io, auto& loop) { loop_io.number("fixed_us", loop.fixed_us, time_us); });
    });
    io.list("library_collectives", gpu.library_collectives, [](auto& in, auto& c) {
      in.choice("op", c.op, collective_ops);
      in.number("base_us", c.base_us, time_us);
      in.number("step_us", c.step_us, time_us);
      in.number("octave_us", c.octave_us, time_us);
      in.number("channel_bytes", c.channel_bytes, bytes, optional);
      in.number("channel_bytes_per_s", c.channel_bytes_per_s, bytes, optional);
      in.number("small_bytes_per_s", c.small_bytes_per_s, rate);
      in.number("small_limit_bytes", c.small_limit_bytes, bytes);
      in.number("ring_base_us", c.ring_base_us, time_us);
      in.number("ring_step_us", c.ring_step_us, time_us);
      in.number("ring_efficiency", c.ring_efficiency, some_share);
      in.number("ring_ranks_lost", c.ring_ranks_lost, count);
      in.number("norm", c.norm, {0.25, 100});
      in.number("error_percent", c.error_percent, percent, optional);
    });
    io.section("one_shot", gpu.one_shot, [](auto& in, auto& c) {
      in.number("base_us", c.base_us, time_us);
      in.number("octave_us", c.octave_us, time_us);
      in.number("efficiency", c.efficiency, some_share);
      in.number("two_shot_base_us", c.two_shot_base_us, time_us);
      in.number("two_shot_rank_us", c.two_shot_rank_us, time_us);
      in.number("two_shot_efficiency", c.two_shot_efficiency, some_share);
      in.number("error_percent", c.error_percent, percent, optional);
    });
    io.list("expert_exchanges", gpu.expert_exchanges, [](auto& in, auto& e) {
      in.text("kernel", e.kernel);
      in.choice("copies", e.copies, exchange_copies);
      in.flag("in_steps", e.in_steps);
      in.section("dispatch", e.dispatch, [](auto& phase_io, auto& p) { exchange_phase(phase_io, p); });
      in.section("combine", e.combine, [](auto& phase_io, auto& p) { exchange_phase(phase_io, p); });
    });
    io.list("engines", gpu.engines, [](auto& in, auto& e) {
      in.choice("engine", e.engine, engine_names);
      in.flag("carried_over", e.carried_over);
      in.number("kernel_us", e.kernel_us, time_us);
      in.number("quantise_kernels", e.quantise_kernels, count, optional);
      in.number("collective_us", e.collective_us, time_us);
      in.number("step_us", e.step_us, time_us);
      in.flag("overlaps_shared_experts", e.overlaps_shared_experts);
      in.number("attention_efficiency", e.attention_efficiency, share, optional);
      in.number("quantised_cache_bytes_per_s", e.quantised_cache_bytes_per_s, bytes, optional);
      in.number("captured_rows", e.captured_rows, count, optional);
      in.number("launched_layer_us", e.launched_layer_us, time_us, optional);
      in.flag("whole_lm_head", e.whole_lm_head);
      in.flag("gathers_tokens", e.gathers_tokens);
      in.flag("library_exchanges", e.library_exchanges);
      in.flag("triton_experts", e.triton_experts);
      in.flag("library_under_ep", e.library_under_ep);
    });
    io.section("fitted", gpu.fitted, [](auto& in, auto& f) {
      in.text("system", f.system);
      in.number("context_tokens", f.context_tokens, {1, 1e12});
      in.number("sparse_context_tokens", f.sparse_context_tokens, {1, 1e12}, optional);
      in.number("requests", f.requests, {1, 1e9}, optional);
      in.number("mla_requests", f.mla_requests, {1, 1e9}, optional);
      in.number("sparse_requests", f.sparse_requests, {1, 1e9}, optional);
      in.number("head_values", f.head_values, {1, 1e9}, optional);
      in.number("rows", f.rows, {1, 1e9});
      in.number("ranks", f.ranks, {1, 1e6});
    });
  }
};

}  // namespace helix
