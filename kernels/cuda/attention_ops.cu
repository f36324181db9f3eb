// KernelOps: the ops of the attention phase.
#include "kernels/cuda/attention/append_new.cuh"
#include "kernels/cuda/attention/attention.cuh"
#include "kernels/cuda/attention/kv_write.cuh"
#include "kernels/cuda/attention/partials.cuh"
#include "kernels/cuda/attention/sinks.cuh"
#include "kernels/cuda/attention/sparse.cuh"
#include "kernels/cuda/kernel_ops.hpp"

namespace helix::cuda {

AttentionProvider* KernelOps::provider(const KvShape& shape) const {
  for (const auto& known : providers_) {
    if (known->maker() == shape.kernels) return known.get();
  }
  return nullptr;
}

std::string KernelOps::kernel_for(const KvShape& shape) const {
  if (shape.kernels == KernelMaker::own) return kernel_path();
  return "attention " + std::string(helix::name(shape.kernels)) + ", other " + kernel_path();
}

std::string KernelOps::why_not_attended(const KvShape& shape, std::int64_t q_heads,
                                        std::int64_t query_tokens) const {
  std::string reason = why_not(shape);
  const AttentionProvider* const maker = provider(shape);
  return reason.empty() && maker != nullptr ? maker->why_not(shape, q_heads, query_tokens) : reason;
}

std::string KernelOps::why_not(const KvShape& shape) const {
  if (shape.kernels != KernelMaker::own) {
    const AttentionProvider* const maker = provider(shape);
    if (maker == nullptr) return "no kernels of " + std::string(helix::name(shape.kernels)) + " here";
    const std::string reason = maker->why_not(shape, shape.kv_heads, 1);
    return reason.empty() ? why_no_layout(shape) : reason;
  }
  return holds_index_keys(shape) ? why_no_layout(shape) : cuda::why_not_attended(limits_, shape);
}

std::size_t KernelOps::kv_page_bytes(const KvShape& shape) const {
  return cuda::kv_page_bytes(shape);
}

void KernelOps::kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                          std::int64_t ldk, const BF16* v, std::int64_t ldv) {
  cuda::kv_append(stream_, cache, batch, slots, k, ldk, v, ldv);
}

void KernelOps::kv_append_new(const KvView& cache, std::int64_t batch, const NewTokens& tokens) {
  if (cache.shape.kernels != KernelMaker::own) return DecodeOps::kv_append_new(cache, batch, tokens);
  cuda::kv_append_new(stream_, cache, batch, tokens);
}

void KernelOps::kv_fill_history(const KvView& cache, const HistorySlice& history) {
  cuda::kv_fill_history(stream_, cache, history);
}

std::size_t KernelOps::attention_scratch_bytes(const KvShape& shape, std::int64_t most_requests,
                                               std::int64_t q_heads) const {
  if (const AttentionProvider* const maker = provider(shape))
    return maker->scratch_bytes(shape, most_requests, q_heads);
  return cuda::attention_scratch_bytes(limits_, shape, most_requests, q_heads);
}

void KernelOps::attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale,
                          const BF16* q, BF16* o, float* lse, std::span<std::byte> scratch) {
  if (AttentionProvider* const maker = provider(cache.shape)) {
    const int left = beside_exchange_ ? limits_.left_to_exchange() : 0;
    maker->attend(stream_,
                  {cache, batch, q_heads, scale, q, o, lse, scratch, limits_.multiprocessors - left});
    return;
  }
  cuda::attention(limits_, stream_, cache, batch, q_heads, scale, q, o, lse, scratch,
                  beside_exchange_ ? Beside::exchange : Beside::nothing);
}

void KernelOps::index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t room,
                           ScoredToken* best, float* scores, std::int64_t longest) {
  cuda::index_best(stream_, keys, batch, query, room, best, scores, longest);
}

void KernelOps::choose_best(std::int64_t parts, std::int64_t mine, std::int64_t batch,
                            const ScoredToken* gathered, const ChosenTokens& chosen) {
  cuda::choose_best(stream_, parts, mine, batch, gathered, chosen);
}

void KernelOps::gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen,
                              const KvView& to) {
  cuda::gather_tokens(stream_, from, batch, chosen, to);
}

void KernelOps::add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float* sinks,
                          BF16* o, float* lse) {
  cuda::add_sinks(stream_, batch, heads, v_dim, sinks, o, lse);
}

void KernelOps::pack_partials(const PartialShape& shape, const BF16* o, const float* lse, std::byte* packed) {
  cuda::pack_partials(stream_, shape, o, lse, packed);
}

void KernelOps::merge_partials(const PartialShape& shape, const std::byte* packed, BF16* out) {
  cuda::merge_partials(stream_, shape, packed, out);
}

}  // namespace helix::cuda
