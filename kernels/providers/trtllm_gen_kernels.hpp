// NVIDIA's decode kernels for Blackwell GPUs (trtllm-gen), as scripts/trtllm_gen.py unpacked them: where they lie, what each
// of them is, and which one a step takes. Their names for things, and the rules by which one is chosen, are those of the
// launcher that FlashInfer 0.6.13 has for them (include/flashinfer/trtllm/fmha/fmhaKernels.cuh, Apache 2.0).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/providers/kernel_driver.hpp"
#include "roofline/step/shapes.hpp"

namespace helix {

/// A line of kernels.csv.
struct TrtllmGenKernel {
  enum class Type { swaps_ab = 2, keeps_ab = 3 };  // which operand of the tensor cores' product is the cache
  /// How blocks that share a request's tokens add up their results.
  enum class Split { none = 0, in_memory = 1, by_another_kernel = 2, in_cluster = 3 };

  std::string function, sha256;
  DType q = DType::bf16, kv = DType::bf16;
  std::int64_t head_dim = 0, v_dim = 0, v_dim_per_block = 0;
  int tile_q = 0, step_kv = 0, tile_kv = 0;
  int tokens_per_page = 0;
  Type type = Type::swaps_ab;
  Split split = Split::none;
  /// causal: hides what follows on a row's token, which of a request's last one is nothing.
  bool persistent = false, causal = false, groups_tokens = false, two_blocks = false;
  int shared_bytes = 0, threads = 0;

  std::filesystem::path file(const std::filesystem::path& folder) const {
    return folder / (function + ".cubin");
  }
};

/// Those of a folder; nothing if it has no kernels.csv.
std::optional<std::vector<TrtllmGenKernel>> read_trtllm_gen_kernels(const std::filesystem::path& folder);

/// $HELIX_TRTLLM_GEN, or a folder trtllm-gen beside the program or above it (build/trtllm-gen for build/release/bin); empty
/// if there is neither.
std::filesystem::path trtllm_gen_folder();

/// One line: what was found there, and for what.
std::string describe_trtllm_gen(const std::filesystem::path& folder);

/// A step's attention in one layer on one rank.
struct TrtllmGenStep {
  KvShape cache;
  std::int64_t requests = 1, q_heads = 1;
  std::int64_t most_tokens = 1;  // of a request
  int multiprocessors = 1;

  std::int64_t group() const { return q_heads / cache.kv_heads; }
};

/// Why no kernel attends such a cache with so many query heads; empty if one does.
std::string why_no_trtllm_gen(const KvShape& cache, std::int64_t q_heads);

/// The kernel of a step and its grid.
struct TrtllmGenPlan {
  TrtllmGenKernel kernel;
  KernelLaunch launch;
  std::int64_t heads_per_block = 1, splits = 1;
};

/// `most_clusters`: that the GPU holds of this plan at a time. Throws std::runtime_error where the kernel is not among those
/// that were found.
TrtllmGenPlan plan_trtllm_gen(const std::vector<TrtllmGenKernel>& kernels, const TrtllmGenStep& step,
                              const std::function<int(const TrtllmGenPlan&)>& most_clusters);

}  // namespace helix
