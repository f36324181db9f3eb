#include "kernels/cuda/providers/trtllm_gen.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/cuda/providers/trtllm_gen_rows.hpp"
#include "kernels/providers/trtllm_gen_params.hpp"
#include "roofline/base/error.hpp"

namespace helix::cuda {
namespace {

/// Cuts arrays off scratch memory; of none it counts.
class Room {
 public:
  explicit Room(std::byte* at) : at_(at) {}
  template <class T>
  T* take(std::int64_t count) {
    auto* const array = reinterpret_cast<T*>(at_ == nullptr ? nullptr : at_ + used_);
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return array;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* at_;
  std::size_t used_ = 0;
};

struct Scratch {
  Scratch(std::byte* at, const KvShape& shape, std::int64_t batch, std::int64_t q_heads, int multiprocessors)
      : room(at),
        lengths(room.take<std::int32_t>(batch)),
        counters(room.take<std::int32_t>(batch * q_heads)),
        stats(room.take<float>(batch * q_heads * 2)),
        partials(room.take<std::byte>(
            static_cast<std::int64_t>(trtllm_gen_partial_bytes(shape, multiprocessors)))) {}

  Room room;
  std::int32_t *lengths, *counters;
  float* stats;
  std::byte* partials;
};

class TrtllmGen final : public AttentionProvider {
 public:
  TrtllmGen(std::unique_ptr<KernelDriver> driver, std::filesystem::path folder, int compute_capability,
            const Gpu& gpu)
      : driver_(std::move(driver)), folder_(std::move(folder)), capability_(compute_capability), gpu_(gpu) {
    kernels_ = read_trtllm_gen_kernels(folder_);
  }

  KernelMaker maker() const override { return KernelMaker::trtllm_gen; }

  std::string why_not(const KvShape& shape, std::int64_t q_heads, std::int64_t query_tokens) const override {
    if (!kernels_)
      return "no kernels of trtllm-gen were found: scripts/install_deps.sh trtllm-gen fetches them";
    if (capability_ != 100 && capability_ != 103) {
      return fmt::format("trtllm-gen's kernels run on compute capability 10.0 and 10.3, this GPU has {}.{}",
                         capability_ / 10, capability_ % 10);
    }
    if (query_tokens > 1) return "trtllm-gen's kernels take one token of each request here, and no drafts";
    const std::string reason = why_no_trtllm_gen(shape, q_heads);
    return reason.empty() ? reason : "trtllm-gen's kernels take " + reason;
  }

  std::size_t scratch_bytes(const KvShape& shape, std::int64_t most_requests,
                            std::int64_t q_heads) const override {
    return Scratch(nullptr, shape, most_requests, q_heads, gpu_.multiprocessors).room.used();
  }

  void attend(Stream stream, const AttentionCall& call) override {
    const KvView& cache = call.cache;
    if (const std::string reason = why_not(cache.shape, call.q_heads, cache.query_tokens); !reason.empty())
      throw UsageError(reason);
    const Scratch scratch(call.scratch.data(), cache.shape, call.batch, call.q_heads, call.multiprocessors);
    if (scratch.room.used() > call.scratch.size())
      throw std::logic_error("attention of trtllm-gen: too little scratch memory");
    if (cache.page_count == 0) {  // no request has a token here
      finish_rows(stream, call.batch, call.q_heads, cache.lengths, scratch.stats, call.lse);
      return;
    }
    prepare_rows(stream, call.batch, call.q_heads, cache.lengths, scratch.lengths, scratch.counters);
    const TrtllmGenStep step{.cache = cache.shape,
                             .requests = call.batch,
                             .q_heads = call.q_heads,
                             .most_tokens = std::max<std::int64_t>(1, cache.most_tokens),
                             .multiprocessors = call.multiprocessors};
    const TrtllmGenPlan plan = plan_trtllm_gen(*kernels_, step, [&](const TrtllmGenPlan& clustered) {
      return driver_->most_clusters(function(clustered.kernel), clustered.launch);
    });
    const TrtllmGenParams params =
        trtllm_gen_params(*driver_, plan, step,
                          {.q = call.q,
                           .cache = cache.pages,
                           .o = call.o,
                           .page_bytes = static_cast<std::int64_t>(cache.page_bytes),
                           .pages = cache.page_count,
                           .page_table = cache.page_table,
                           .lengths = scratch.lengths,
                           .table_width = cache.max_pages,
                           .counters = scratch.counters,
                           .softmax_stats = scratch.stats,
                           .partials = scratch.partials,
                           .scale = call.scale});
    driver_->launch(function(plan.kernel), plan.launch, &params);
    if (plan.kernel.split != TrtllmGenKernel::Split::by_another_kernel) {
      finish_rows(stream, call.batch, call.q_heads, cache.lengths, scratch.stats, call.lse);
      return;
    }
    const TrtllmGenKernel& k = plan.kernel;
    merge_blocks(stream, call.batch, call.q_heads, cache.lengths,
                 {.stats = static_cast<const float*>(params.partial_stats),
                  .o = static_cast<const BF16*>(params.partial_out),
                  .splits = plan.splits,
                  .tile_q = k.tile_q,
                  .heads_per_tile = plan.heads_per_block,
                  .tile_kv = k.tile_kv,
                  .v_dim = k.v_dim,
                  .v_dim_per_tile = k.v_dim_per_block * (k.two_blocks ? 2 : 1),
                  .scale_log2 = params.softmax_scale_log2},
                 call.o, call.lse);
  }

 private:
  KernelDriver::Function function(const TrtllmGenKernel& kernel) {
    KernelDriver::Function& known = functions_[kernel.function];
    if (known == nullptr)
      known =
          driver_->load(kernel.file(folder_), kernel.function, kernel.shared_bytes, sizeof(TrtllmGenParams));
    return known;
  }

  std::unique_ptr<KernelDriver> driver_;
  std::filesystem::path folder_;
  int capability_;
  Gpu gpu_;
  std::optional<std::vector<TrtllmGenKernel>> kernels_;
  std::map<std::string, KernelDriver::Function> functions_;
};

}  // namespace

std::unique_ptr<AttentionProvider> make_trtllm_gen(std::unique_ptr<KernelDriver> driver,
                                                   std::filesystem::path folder, int compute_capability,
                                                   const Gpu& gpu) {
  return std::make_unique<TrtllmGen>(std::move(driver), std::move(folder), compute_capability, gpu);
}

}  // namespace helix::cuda
