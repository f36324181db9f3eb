#include "kernels/state/kv_cache.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "kernels/ops/work_counter.hpp"

namespace helix {
namespace {

constexpr std::int32_t invalid_page = std::numeric_limits<std::int32_t>::min();

/// Kernels of other makers read whole tiles, of 256 tokens at most, and the next one's pages ahead.
bool read_whole(const KvShape& shape) {
  return shape.kernels != KernelMaker::own;
}
std::int64_t table_width(const CacheRoom& room) {
  const std::int64_t pages = room.pages_per_request();
  if (!read_whole(room.shape)) return pages + 1;
  const std::int64_t tile = std::max<std::int64_t>(1, 256 / room.shape.tokens_per_page);
  return (ceil_div(pages, tile) + 1) * tile;
}

}  // namespace

KvCache::Arrays::Arrays(Carver& carver, const CacheRoom& room, std::size_t page_bytes)
    : lengths(carver.take<std::int64_t>(room.requests * room.query_tokens)),
      slots(carver.take<std::int64_t>(room.requests * room.query_tokens)),
      page_table(carver.take<std::int32_t>(room.requests * table_width(room))),
      pages(carver.take<std::byte>(std::ssize(room.layers) * room.requests * room.pages_per_request() *
                                   static_cast<std::int64_t>(page_bytes))) {}

std::size_t KvCache::bytes_needed(const Backend& backend, std::span<const CacheRoom> rooms) {
  Carver size(backend);
  for (const CacheRoom& room : rooms)
    static_cast<void>(Arrays(size, room, backend.kv_page_bytes(room.shape)));
  return size.used();
}

std::vector<KvCache> KvCache::make(Backend& backend, std::span<const CacheRoom> rooms,
                                   std::unique_ptr<Buffer>& memory) {
  for (const CacheRoom& room : rooms) {
    if (room.requests * room.pages_per_request() > std::numeric_limits<std::int32_t>::max())
      throw std::length_error("more than 2^31 KV pages on one rank");
  }
  ensure(backend, memory, bytes_needed(backend, rooms));
  Carver carver(backend, *memory);
  std::vector<KvCache> caches;
  for (const CacheRoom& room : rooms) caches.emplace_back(backend, room, carver);
  return caches;
}

KvCache::KvCache(Backend& backend, const CacheRoom& room, Carver& carver)
    : backend_(backend),
      room_(room),
      page_bytes_(backend.kv_page_bytes(room.shape)),
      arrays_(carver, room, page_bytes_) {
  // Pages of different requests alternate, as they do when a server's requests grow side by side.
  const std::int64_t pages = room.pages_per_request();
  const std::int64_t width = table_width(room);
  std::vector<std::int32_t> table(static_cast<std::size_t>(room.requests * width), invalid_page);
  for (std::int64_t b = 0; b < room.requests; ++b) {
    const auto row = table.begin() + b * width;
    const auto page = [&](std::int64_t p) { return static_cast<std::int32_t>(p * room.requests + b); };
    if (read_whole(room.shape) && pages > 0) std::fill_n(row, width, page(pages - 1));
    for (std::int64_t p = 0; p < pages; ++p) row[p] = page(p);
  }
  backend.copy_to_device(arrays_.page_table, table.data(), table.size() * sizeof(std::int32_t));
}

KvView KvCache::layer(std::int64_t layer) const {
  const std::int64_t place = std::ranges::find(room_.layers, layer) - room_.layers.begin();
  const std::int64_t first_page = place * room_.requests * room_.pages_per_request();
  return {.shape = room_.shape,
          .pages = arrays_.pages + static_cast<std::size_t>(first_page) * page_bytes_,
          .page_bytes = page_bytes_,
          .page_table = arrays_.page_table,
          .max_pages = table_width(room_),
          .lengths = arrays_.lengths,
          .query_tokens = room_.query_tokens,
          .page_count = room_.requests * room_.pages_per_request(),
          .most_tokens = tokens_per_request()};
}

void KvCache::fill_history(History history) {
  history_ = std::move(history);
  // Pages are numbered page-major (page * requests + request), so everything from the last history page on is
  // one run.
  const std::int64_t full_pages = room_.history.size() / room_.shape.tokens_per_page;
  const std::int64_t others = room_.pages_per_request() - full_pages;
  for (const std::int64_t l : room_.layers) {
    const KvView view = layer(l);
    backend_.set_bytes(view.pages + static_cast<std::size_t>(full_pages * room_.requests) * page_bytes_,
                       read_whole(room_.shape) ? 0 : 0xff,
                       static_cast<std::size_t>(others * room_.requests) * page_bytes_);
    write_history(view, l, room_.history.size());
  }
  rewind();
}

void KvCache::write_history(const KvView& view, std::int64_t layer, std::int64_t tokens) {
  std::int64_t cached = 0;
  for (const Range& run : history_.requests) {
    backend_.kv_fill_history(view.from_request(cached), {.keys = history_.keys,
                                                         .seed = history_.seed,
                                                         .layer = layer,
                                                         .first_request = run.begin,
                                                         .requests = run.size(),
                                                         .first_kv_head = history_.first_kv_head,
                                                         .global_kv_heads = history_.global_kv_heads,
                                                         .first_position = room_.history.begin,
                                                         .tokens = tokens});
    cached += run.size();
    note_work();
  }
  if (!read_whole(room_.shape)) poison_last_page(view);
}

// Pages are filled whole: behind the history's end the last one holds what the next rank's first
// tokens look like.
void KvCache::poison_last_page(KvView view) {
  view.query_tokens = 1;
  const KvShape& shape = room_.shape;
  const std::int64_t row = shape.kv_heads * std::max(shape.head_dim, shape.v_dim);
  const auto nan = backend_.allocate(static_cast<std::size_t>(row) * sizeof(BF16));
  backend_.set_bytes(nan->data(), 0xff, nan->bytes());
  const auto* values = reinterpret_cast<const BF16*>(nan->data());
  for (std::int64_t t = room_.history.size(); t % shape.tokens_per_page != 0; ++t) {
    const std::vector<std::int64_t> slots(static_cast<std::size_t>(room_.requests), t);
    backend_.copy_to_device(arrays_.slots, slots.data(), slots.size() * sizeof(std::int64_t));
    backend_.kv_append(view, room_.requests, arrays_.slots, values, 0, values, 0);
  }
}

void KvCache::rewind(std::int64_t replaced) {
  if (const std::int64_t lost = std::min(replaced, room_.history.size()); lost > 0)
    for (const std::int64_t l : room_.layers) write_history(layer(l), l, lost);
  const std::vector<std::int64_t> tokens(static_cast<std::size_t>(room_.requests * room_.query_tokens),
                                         room_.history.size());
  backend_.copy_to_device(arrays_.lengths, tokens.data(), tokens.size() * sizeof(std::int64_t));
  backend_.copy_to_device(arrays_.slots, tokens.data(), tokens.size() * sizeof(std::int64_t));
}

}  // namespace helix
