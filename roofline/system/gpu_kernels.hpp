// Physical parameters of a GPU's decode kernels: what a streaming multiprocessor, DRAM, the L2 and NVLink do
// to the time of a kernel. Fitted once on one GPU (roofline/fit); another one of the family takes over
// everything but the data-sheet figures (SystemSpec), which the efficiencies below multiply.
//
// What only a benchmark loop shows (its L2-warm buffers, its host's launches) stands apart in `loop`: nothing
// but the comparison with such loops reads it (benchmark_loop.hpp).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "roofline/base/dtype.hpp"
#include "roofline/system/collective.hpp"
#include "roofline/system/engine.hpp"

namespace helix {

/// What a kernel multiplies: its weights' format, and its inputs' where that differs (w4a16: 4-bit weights,
/// 16-bit inputs).
enum class KernelFormat {
  bf16,
  fp8,        // one scale a tensor, taken from the input as it comes
  fp8_block,  // one scale for 128 x 128 weights and for 128 inputs
  nvfp4,
  w4a16_mxfp4,
  w4a8_mxfp4_mxfp8,
};
/// As measurement files name them: "bfloat16", "fp8", "fp8_block", "nvfp4", "w4a16_mxfp4" ...
std::string_view name(KernelFormat format);
/// Whether weights that are stored so can be multiplied by such a kernel.
bool serves(KernelFormat kernel, DType weights);

/// Common to all kernels.
struct GpuCommon {
  double kernel_us = 0;               // one kernel inside a CUDA graph, data aside: launch, prologue, drain
  double elementwise_efficiency = 0;  // of data-sheet DRAM bandwidth
  double dram_fill_bytes = 0;  // a stream this long meets DRAM's whole start-up latency, a shorter one less
  double l2_bytes = 0;
};

/// Dense products y [m, n] = x [m, k] W^T by tiles of 128 x tile_n. Few tiles are split along k.
struct GpuGemm {
  KernelFormat format = KernelFormat::bf16;
  double tile_n = 0;
  double k_us = 0;                // a tile walks 1024 values of k: latency of the load-multiply chain
  double split_k_min = 0;         // shortest k that a split works on; 0: the kernel does not split
  double split_us = 0;            // a doubling of the splits, x log2(2 x tiles): reduction
  double efficiency = 0;          // of DRAM bandwidth
  double compute_efficiency = 1;  // of the data-sheet peak
  double dram_latency_us = 0;     // first bytes of a DRAM stream (dram_fill_bytes and more)
  double input_bytes = 0;         // DRAM bytes per value of x, quantised copies included
  double input_us = 0;            // 10^6 values of x: quantisation, re-reads by the tiles
  double norm = 2;                // of the overlap of loads, chain and products
  double error_percent = 0;       // of the fit: nine of ten measured kernels lie within it
  struct Loop {
    double fixed_us = 0;   // quantisation kernels included
    double warm_hits = 0;  // share of the weights found in the L2 when replayed copies fit it
  } loop;
};

/// Where a replayed KV cache lies: the L2 stops to hold it around `warm_bytes`.
struct WarmCache {
  double bytes_per_s = 0;  // from the L2
  double bytes = 0, width_bytes = 0;
};

/// GQA flash-decode, split along the context so that the SMs are filled.
struct GpuGqa {
  /// tensor_cores: a block works on the 8, 16 ... query heads of a KV head at once; cuda_cores: on one query
  /// head, whose keys it reads for itself.
  enum class Unit { tensor_cores, cuda_cores } unit = Unit::tensor_cores;
  enum class Cache { any, bf16, quantised } cache = Cache::any;  // those that it serves
  double least_group = 1, largest_group = 1e5;                   // query heads per KV head that it serves
  double kernels = 0;                                            // inside a graph: RoPE + append, attention
  double efficiency = 0;                                         // of DRAM bandwidth
  double narrow_row_efficiency = 0;  // of that, with rows of 64 bytes and less: short bursts
  double dram_latency_us = 0;
  double sm_rows_per_s = 0;  // per SM: a token's keys and values of 128 dimensions, for 8 heads of a group
      // (tensor cores) or one (CUDA cores), whose work is in proportion to the dimension
  double split_rate = 1;    // of that rate, where the context is split: fewer blocks hide latency
  double split_tokens = 0;  // shortest context of a split
  double split_us = 0;      // one more split: reduction
  double error_percent = 0;
  struct Loop {
    double fixed_us = 0;
    WarmCache warm;
  } loop;
};

/// Absorbed MLA flash-decode by tiles of heads.
struct GpuMla {
  double kernels = 0;
  double dram_latency_us = 0;
  double bf16_compute_efficiency = 1, fp8_compute_efficiency = 1;  // of the data-sheet peak
  double split_tokens = 0, max_splits = 0;
  double split_us = 0;  // x (splits - 1)^split_exponent
  double split_exponent = 0;
  double split_head_share = 0;    // growth of that per 64 heads
  double occupancy_exponent = 0;  // bandwidth falls with this power of the SMs' occupancy ...
  double occupancy_floor = 0;     // ... down to this occupancy
  double head_bytes_bf16 = 0, head_bytes_fp8 = 0;  // per request and head: queries, outputs, partial results
  struct Tile {
    double heads = 0;   // up to this many local heads
    double blocks = 1;  // that share them; the last tile's count is for each 64 heads
    double bf16_efficiency = 0, fp8_efficiency = 0;  // of DRAM bandwidth
  };
  std::vector<Tile> tiles;
  double error_percent = 0;
  struct Loop {
    double fixed_us = 0;
    double bf16_us = 0;  // more with a bf16 cache
    WarmCache warm;
  } loop;
};

/// Attention over rows of a latent cache that an indexer picked, gathered one by one.
struct GpuSparseAttention {
  std::string kernel;  // as measurement files name it
  GpuGqa::Cache cache = GpuGqa::Cache::any;
  double row_values = 0;  // of a cached token: 576 MLA, 512 compressed attention
  double kernels = 0;
  double gather_efficiency = 0;   // of DRAM bandwidth
  double compute_efficiency = 0;  // of the bf16 peak, for tiles of 64 heads
  double head_us = 0;             // a request and head: queries, outputs, partial results
  double error_percent = 0;
  struct Loop {  // around a whole module, its projections included
    double fixed_us = 0;
    double quantise_us = 0;        // inputs of 8-bit projections
    double weight_efficiency = 0;  // of DRAM bandwidth, all projections together
  } loop;
};

/// Scores of cached keys, and the choice of the best.
struct GpuIndexer {
  double tokens_per_key = 1;
  double kernels = 0;         // besides its projections
  double key_efficiency = 0;  // of DRAM bandwidth
  double key_us = 0;          // 1024 keys of a request: one block walks them
  double sort_us = 0;         // more where the keys exceed top_k by 512 and more, up to sort_keys
  double sort_keys = 0;
  struct Loop {
    double fixed_us = 0;
  } loop;
};

/// Who wrote the kernels of the routed experts.
enum class MoeKernel { tf_min_latency, tf_cutlass, tf_nongated, tf, deepgemm, triton };
std::string_view name(MoeKernel kernel);  // as measurement files name them

/// Routed experts of one rank: routing, permutation, two grouped products, finalisation.
struct GpuMoe {
  MoeKernel kernel = MoeKernel::tf_cutlass;
  KernelFormat format = KernelFormat::bf16;
  bool gated = true;
  double kernels = 0;  // launched inside a graph
  double tile_n = 0;
  double most_tile_tokens = 0;  // the tile follows the load that it expects, up to this; 0: 128 tokens always
  double k_us = 0;              // a tile walks 1024 values of k ...
  double tile_us = 0;           // ... and this more for 128 tokens
  double small_step_tokens =
      0;  // tiles have 16 tokens in a layer of up to this many, else 64, and the tensor
          // cores multiply them whole; 0: as above
  double efficiency = 0;
  double compute_efficiency = 1;
  double norm = 2;  // of the overlap of loads, chain and products
  // A wave of tiles starts and ends: only whole ones count. 0: tiles of the next one take the places of those that
  // are done.
  double wave_us = 0;
  double local_expert_us = 0;   // per expert of the rank: its tile schedule
  double active_expert_us = 0;  // per expert that got tokens
  double permute_bytes_per_s = 0;
  double error_percent = 0;
  struct Loop {
    double fixed_us = 0;
  } loop;
};

/// A library's collective: a low-latency protocol for small messages, rings for large ones.
struct GpuCollective {
  Collective op = Collective::all_reduce;
  double base_us = 0;
  double step_us = 0;    // a message passes to the next rank: 2 (n - 1) times for all_reduce, else n - 1
  double octave_us = 0;  // per doubling of the message above 4 KiB
  // All-to-all has a part for each peer, whose first channel_bytes go through one channel; what is more goes
  // through others at the same time. 0: all through all channels.
  double channel_bytes = 0, channel_bytes_per_s = 0;
  double small_bytes_per_s = 0;  // low-latency protocol: data and flags in one store
  double small_limit_bytes = 0;  // x ranks
  double ring_base_us = 0, ring_step_us = 0;
  double ring_efficiency = 0;  // of the link, in a large group
  double ring_ranks_lost = 0;  // n / (n + lost): pipeline fill of a small group
  double norm = 1;
  double error_percent = 0;
};

/// Kernels that store straight into every peer's memory, then wait for one barrier. Large all-reduces take
/// two shots: every rank reduces its part and stores the sum to all peers.
struct GpuOneShot {
  double base_us = 0;
  double octave_us = 0;   // per doubling of the ranks
  double efficiency = 0;  // of the link
  double two_shot_base_us = 0;
  double two_shot_rank_us = 0;
  double two_shot_efficiency = 0;
  double error_percent = 0;
};

/// Dispatch and combine of routed tokens inside an NVLink domain. t = |(base, bytes / bandwidth)|_norm +
/// hidden_us; across domains, the copies that leave are sent by the adapters afterwards.
struct GpuExpertExchange {
  std::string kernel;  // as measurement files name it
  /// What goes to a rank that holds several of a token's experts: a copy for each, or one.
  enum class Copies { each_expert, each_rank } copies = Copies::each_expert;
  bool in_steps = true;  // engines use it for decoding; others are for the comparison with measurements
  struct Phase {
    double base_us = 0;     // counts, addresses, barrier
    double hidden_us = 0;   // 1024 values of a token: how the copies are cut
    double efficiency = 0;  // of the link
    double norm = 1;
    double loop_base_us = 0;  // in a benchmark loop, which waits for the host
    // Of a combine that sends 4-bit values, which the next layer does not want: kernels that narrow and widen them.
    double loop_narrow_us = 0;
    double error_percent = 0;
  };
  Phase dispatch, combine;
};

/// What a decode step has besides its isolated kernels.
struct GpuEngine {
  Engine engine = Engine::none;
  bool carried_over = false;             // from another engine or another GPU: not measured
  double kernel_us = 0;                  // more for every kernel: gaps in the graph, fixed cost that stays
  double quantise_kernels = 0;           // before a dense product with quantised inputs
  double collective_us = 0;              // more for every collective: ranks that arrive at different times
  double step_us = 0;                    // once: sampling, and the host's work between steps
  bool overlaps_shared_experts = false;  // on a second stream beside the routed ones
  // Its attention kernels' limits, 0 where none is known: of DRAM bandwidth, and the quantised cache that all
  // SMs widen.
  double attention_efficiency = 0;
  double quantised_cache_bytes_per_s = 0;
  // Steps are captured graphs of certain sizes (graph_rows of engine.hpp), up to this many rows of a group of
  // ranks; beyond, the host launches kernels one by one: so long for each layer. 0: no padding.
  double captured_rows = 0, launched_layer_us = 0;
  bool whole_lm_head = false;   // on each rank that attends requests of its own
  bool gathers_tokens = false;  // all ranks' for their experts, instead of sending each to its experts' ranks
  bool library_exchanges =
      false;  // its own kernels sum over ranks; whatever else they exchange goes by the library
  // Routed experts by MoeKernel::triton, where the system has it for the format; with a library's kernels in its place
  // where ranks hold different experts (EP).
  bool triton_experts = false, library_under_ep = false;
};

/// What the parameters were fitted on; predictions beyond are extrapolations.
struct GpuFitted {
  std::string system;
  double context_tokens = 0;
  double sparse_context_tokens = 0;
  double requests = 0, mla_requests = 0, sparse_requests = 0;  // that attention has at a time
  double head_values = 0;                                      // of a head, but in MLA
  double rows = 0;   // of a product, tokens of a MoE layer, of a rank in its exchange
  double ranks = 0;  // of a collective
};

struct GpuKernels {
  GpuCommon common;
  std::vector<GpuGemm> gemm;
  std::vector<GpuGqa> gqa;
  GpuMla mla;
  std::vector<GpuSparseAttention> sparse_attention;
  std::vector<GpuIndexer> indexers;
  std::vector<GpuMoe> moe;
  std::vector<GpuCollective> library_collectives;
  GpuOneShot one_shot;
  std::vector<GpuExpertExchange> expert_exchanges;
  std::vector<GpuEngine> engines;
  GpuFitted fitted;
};

}  // namespace helix
