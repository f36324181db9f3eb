// Physical parameters of a GPU's decode kernels: what a streaming multiprocessor, DRAM, the L2 and NVLink do
// to the time of a kernel. Fitted once on one GPU; another one of the family takes over everything but the
// data-sheet figures (SystemSpec), which the efficiencies below multiply.
#pragma once

#include <string>
#include <vector>

namespace helix {

/// Common to all kernels.
struct GpuCommon {
  double kernel_us = 0;               // one kernel inside a CUDA graph, data aside: launch, prologue, drain
  double elementwise_efficiency = 0;  // of data-sheet DRAM bandwidth
  double dram_fill_bytes = 0;  // a stream this long meets DRAM's whole start-up latency, a shorter one less
  double l2_bytes = 0;
};

/// Dense products y [m, n] = x [m, k] W^T by tiles of 128 x tile_n. Few tiles are split along k.
struct GpuGemm {
  std::string dtype;       // bfloat16, fp8 (dynamic per-tensor scale), fp8_block, nvfp4
  double isolated_us = 0;  // fixed time in a benchmark loop, quantisation kernels included
  double tile_n = 0;
  double k_us = 0;             // a tile walks 1024 values of k: latency of the load-multiply chain
  double split_k_min = 0;      // shortest k that a split works on; 0: the kernel does not split
  double split_us = 0;         // a doubling of the splits, x log2(2 x tiles): reduction
  double efficiency = 0;       // of DRAM bandwidth
  double dram_latency_us = 0;  // first bytes of a DRAM stream (dram_fill_bytes and more)
  double input_bytes = 0;      // DRAM bytes per value of x, quantised copies included
  double input_us = 0;         // 10^6 values of x: quantisation, re-reads by the tiles
  double warm_hits = 0;        // share of the weights found in the L2 when replayed copies fit it
};

/// GQA flash-decode, split along the context so that the SMs are filled.
struct GpuGqa {
  double isolated_us = 0;
  double kernels = 0;                // inside a graph: RoPE + append, attention
  double efficiency = 0;             // of DRAM bandwidth
  double narrow_row_efficiency = 0;  // of that, with rows of 64 bytes and less: short bursts
  double dram_latency_us = 0;
  double sm_score_rows_per_s = 0;  // per SM: scores of a token in groups of 8 heads; tensor cores and softmax
  double split_tokens = 0;         // shortest context of a split
  double split_us = 0;             // one more split: reduction
  double warm_bytes_per_s = 0;     // from the L2
  double warm_bytes = 0, warm_width_bytes = 0;  // KV bytes at which the L2 stops to hold a replayed cache
};

/// Absorbed MLA flash-decode by tiles of 16, 32 or 64 heads.
struct GpuMla {
  double isolated_us = 0;
  double isolated_bf16_us = 0;  // more with a bf16 cache
  double kernels = 0;
  double dram_latency_us = 0;
  double split_tokens = 0, max_splits = 0;
  double split_us = 0;          // x cube root of (splits - 1)
  double split_head_share = 0;  // growth of that per 64 heads
  double occupancy_floor = 0;   // bandwidth falls with the root of the SMs' occupancy, down to this occupancy
  double head_bytes_bf16 = 0, head_bytes_fp8 = 0;  // per request and head: queries, outputs, partial results
  double warm_bytes_per_s = 0;
  double warm_bytes = 0, warm_width_bytes = 0;
  struct Tile {
    double heads = 0;  // up to this many local heads
    double bf16_efficiency = 0, fp8_efficiency = 0;
  };
  std::vector<Tile> tiles;
};

/// Routed experts of one rank: routing, permutation, two grouped products, finalisation.
struct GpuMoe {
  std::string kernel;  // tf_cutlass, tf_min_latency, deepgemm ...
  std::string dtype;
  bool gated = true;
  double isolated_us = 0;
  double kernels = 0;  // launched inside a graph
  double tile_n = 0;
  double k_us = 0;
  double efficiency = 0;
  double local_expert_us = 0;   // per expert of the rank: its tile schedule
  double active_expert_us = 0;  // per expert that got tokens
  double permute_bytes_per_s = 0;
};

/// A library's collective: a low-latency protocol for small messages, rings for large ones.
struct GpuCollective {
  std::string op;  // as in `Collective`
  double base_us = 0,
         step_us = 0;    // a step passes a message to the next rank: 2 (n - 1) of all_reduce, else n - 1
  double octave_us = 0;  // per doubling of the message above 4 KiB
  double small_bytes_per_s = 0;  // low-latency protocol: data and flags in one store
  double small_limit_bytes = 0;  // x ranks
  double ring_base_us = 0, ring_step_us = 0;
  double ring_efficiency = 0;  // of the link, in a large group
  double ring_ranks_lost = 0;  // n / (n + lost): pipeline fill of a small group
  double norm = 1;
};

/// Kernels that store straight into every peer's memory, then wait for one barrier.
struct GpuOneShot {
  double base_us = 0;
  double octave_us = 0;         // per doubling of the ranks
  double efficiency = 0;        // of the link
  double two_shot_base_us = 0;  // reduce-scatter + all-gather, for large all-reduces
  double two_shot_efficiency = 0;
};

struct GpuKernels {
  GpuCommon common;
  std::vector<GpuGemm> gemm;
  GpuGqa gqa;
  GpuMla mla;
  std::vector<GpuMoe> moe;
  std::vector<GpuCollective> library_collectives;
  GpuOneShot one_shot;
};

}  // namespace helix
