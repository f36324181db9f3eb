#include "kernels/state/kv_cache.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "kernels/ops/memory.hpp"
#include "kernels/ops/work_counter.hpp"

namespace helix {
namespace {

std::int64_t pages_for(std::int64_t tokens, int tokens_per_page) {
  return (tokens + tokens_per_page - 1) / tokens_per_page;
}

constexpr std::int32_t invalid_page = std::numeric_limits<std::int32_t>::min();

}  // namespace

KvShape cached_shape(const ModelSpec& model, const Sharding& sharding, const RankCoords& at,
                     const DecodeShape& shape) {
  const AttentionSpec& a = model.attention;
  const bool mla = a.kind == AttentionKind::mla;
  return {.kind = a.kind,
          .kv_heads = cached_kv_heads(model, sharding, at).size(),
          .head_dim = mla ? a.kv_lora_rank + a.qk_rope_head_dim : a.qk_head_dim,
          .v_dim = mla ? a.kv_lora_rank : a.v_head_dim,
          .tokens_per_page = shape.tokens_per_block,
          .dtype = shape.kv_dtype};
}

std::size_t KvCache::bytes_needed(Backend& backend, const KvShape& shape, std::int64_t layers,
                                  std::int64_t batch, std::int64_t tokens) {
  const std::int64_t pages = pages_for(tokens, shape.tokens_per_page);
  Carver carver(backend);
  carver.take<std::int64_t>(batch);
  carver.take<std::int64_t>(batch);
  carver.take<std::int32_t>(batch * (pages + 1));
  carver.take<std::byte>(layers * batch * pages * static_cast<std::int64_t>(backend.kv_page_bytes(shape)));
  return carver.used();
}

KvCache::KvCache(Backend& backend, const KvShape& shape, std::int64_t layers, std::int64_t batch,
                 const LocalHistory& history, std::int64_t growth, std::unique_ptr<Buffer>& memory)
    : backend_(backend),
      shape_(shape),
      layers_(layers),
      batch_(batch),
      pages_per_request_(pages_for(history.tokens + growth, shape.tokens_per_page)),
      history_(history),
      page_bytes_(backend.kv_page_bytes(shape)) {
  const std::int64_t pages = batch * pages_per_request_;
  if (pages > std::numeric_limits<std::int32_t>::max())
    throw std::length_error("more than 2^31 KV pages on one rank");
  ensure(backend, memory, bytes_needed(backend, shape, layers, batch, history.tokens + growth));
  Carver carver(backend, *memory);
  lengths_ = carver.take<std::int64_t>(batch);
  slots_ = carver.take<std::int64_t>(batch);
  page_table_ = carver.take<std::int32_t>(batch * (pages_per_request_ + 1));
  pages_ = carver.take<std::byte>(layers * pages * static_cast<std::int64_t>(page_bytes_));

  // Pages of different requests alternate, as they do when a server's requests grow side by side.
  std::vector<std::int32_t> table(static_cast<std::size_t>(batch * (pages_per_request_ + 1)), invalid_page);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t p = 0; p < pages_per_request_; ++p) {
      table[static_cast<std::size_t>(b * (pages_per_request_ + 1) + p)] =
          static_cast<std::int32_t>(p * batch + b);
    }
  }
  backend.copy_to_device(page_table_, table.data(), table.size() * sizeof(std::int32_t));
}

KvView KvCache::layer(std::int64_t layer) const {
  return {.shape = shape_,
          .pages = pages_ + static_cast<std::size_t>(layer * batch_ * pages_per_request_) * page_bytes_,
          .page_bytes = page_bytes_,
          .page_table = page_table_,
          .max_pages = pages_per_request_ + 1,
          .lengths = lengths_};
}

void KvCache::fill_history(std::uint64_t seed, std::int64_t first_layer, std::span<const Range> requests,
                           std::int64_t first_kv_head, std::int64_t global_kv_heads) {
  // Pages are numbered page-major (page * batch + request), so everything from the last history page on is
  // one run.
  const std::int64_t full_pages = history_.tokens / shape_.tokens_per_page;
  for (std::int64_t l = 0; l < layers_; ++l) {
    const KvView view = layer(l);
    backend_.set_bytes(view.pages + static_cast<std::size_t>(full_pages * batch_) * page_bytes_, 0xff,
                       static_cast<std::size_t>((pages_per_request_ - full_pages) * batch_) * page_bytes_);
    std::int64_t cached = 0;
    for (const Range& run : requests) {
      backend_.kv_fill_history(view.from_request(cached), {.seed = seed,
                                                           .layer = first_layer + l,
                                                           .first_request = run.begin,
                                                           .requests = run.size(),
                                                           .first_kv_head = first_kv_head,
                                                           .global_kv_heads = global_kv_heads,
                                                           .first_position = history_.first_position,
                                                           .tokens = history_.tokens});
      cached += run.size();
      note_work();
    }
    poison_last_page(view);
  }
  rewind();
}

// Pages are filled whole: behind the history's end the last one holds what the next rank's first
// tokens look like.
void KvCache::poison_last_page(const KvView& view) {
  const std::int64_t page = shape_.tokens_per_page;
  const std::int64_t row = shape_.kv_heads * std::max(shape_.head_dim, shape_.v_dim);
  const auto nan = backend_.allocate(static_cast<std::size_t>(row) * sizeof(BF16));
  backend_.set_bytes(nan->data(), 0xff, nan->bytes());
  const auto* values = reinterpret_cast<const BF16*>(nan->data());
  for (std::int64_t t = history_.tokens; t % page != 0; ++t) {
    const std::vector<std::int64_t> slots(static_cast<std::size_t>(batch_), t);
    backend_.copy_to_device(slots_, slots.data(), slots.size() * sizeof(std::int64_t));
    backend_.kv_append(view, batch_, slots_, values, 0, values, 0);
  }
}

void KvCache::rewind() {
  const std::vector<std::int64_t> tokens(static_cast<std::size_t>(batch_), history_.tokens);
  backend_.copy_to_device(lengths_, tokens.data(), tokens.size() * sizeof(std::int64_t));
  backend_.copy_to_device(slots_, tokens.data(), tokens.size() * sizeof(std::int64_t));
}

}  // namespace helix
