// What a machine is: data-sheet figures, achieved figures and what they were taken from, per rank (one GPU,
// or one MPI rank of a host with all ranks of the machine active).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "roofline/base/dtype.hpp"
#include "roofline/system/collective.hpp"
#include "roofline/system/engine.hpp"

namespace helix {

struct GpuKernels;  // roofline/system/gpu_kernels.hpp

/// Kernels that share a cost curve.
enum class KernelFamily { gemm, gqa_attention, mla_attention, indexer, moe, elementwise };
std::string_view name(KernelFamily family);

/// t = fixed + ((bytes / bytes_per_s)^norm + (flops / flops_per_s)^norm)^(1/norm): a large norm overlaps
/// memory and arithmetic fully (max), norm 1 not at all (sum). `dtype` is that of the weights or of the KV
/// cache. `spread` of this and other rates says how steady the machine was: how far its figures of
/// consecutive stretches of the measuring lie apart (sweeps/machine/round_figure.hpp), 0 where nothing was measured.
struct KernelRate {
  KernelFamily family = KernelFamily::gemm;
  DType dtype = DType::bf16;
  double fixed_us = 0;
  double bytes_per_s = 0;
  double flops_per_s = 0;
  double norm = 4;
  double spread = 0;
};

/// Time of a collective of payload S in a group of this size: alpha + S / bytes_per_s.
struct CollectiveRate {
  Collective op = Collective::all_reduce;
  int group = 2;
  double alpha_us = 0;
  double bytes_per_s = 0;
  double spread = 0;
};

/// What serving engines leave their weights and cache: the rest is for the driver's context,
/// workspaces and graphs.
inline constexpr double default_memory_fraction = 0.92;

struct SystemSpec {
  std::string name;
  std::string device;
  bool calibrated = false;  // measured on the very machine: rooflines use the achieved bandwidth

  struct Dram {
    double datasheet_bytes_per_s = 0;
    double achieved_bytes_per_s = 0;
    double capacity_bytes = 0;  // as the driver reports it
    double spread = 0;
    /// Of the capacity, what weights, KV cache and buffers may take together; not part of a file.
    double memory_fraction = default_memory_fraction;
    double usable_bytes() const { return capacity_bytes * memory_fraction; }
  } dram;
  struct Peaks {  // dense FLOP/s
    double bf16 = 0, fp8 = 0, fp4 = 0;
    double core_clock_hz = 0;  // of the host's cores meanwhile, which all its rates follow; 0: not known
    double spread = 0;
  } peak_flops;
  double board_watts = 0;  // of a GPU at most, by its data sheet; 0: not stated
  double sms = 0;          // streaming multiprocessors, or cores of a rank

  struct Link {
    double bytes_per_s = 0;         // one direction, inside the domain
    double domain = 1;              // ranks that reach each other at that speed
    double beyond_bytes_per_s = 0;  // per rank, between domains
    double beyond_latency_us = 0;   // added to a collective that leaves the domain
  } link;

  // A measured host is priced by these rates, a GPU by its physical parameters.
  std::vector<KernelRate> kernels;
  std::vector<CollectiveRate> collectives;
  std::shared_ptr<const GpuKernels> gpu;
  Engine engine = Engine::none;  // whose steps to predict; a system file has no say in it

  /// Where the numbers of a section come from: {"dram": "NVIDIA data sheet ..."}.
  std::map<std::string, std::string> origin;

  /// What roofline_ttl_us divides by: achieved if measured here, else the data sheet.
  double roofline_bytes_per_s() const {
    return calibrated ? dram.achieved_bytes_per_s : dram.datasheet_bytes_per_s;
  }
};

/// `name_or_path`: a built-in system (case-insensitive) or a YAML file of the same form. Throws UsageError.
SystemSpec load_system(const std::string& name_or_path);
/// The same from YAML text; `source` names it in errors.
SystemSpec parse_system(std::string_view yaml, const std::string& source);
std::string to_yaml(const SystemSpec& system);
std::vector<std::string> built_in_systems();

}  // namespace helix
