#include "kernels/state/kv_cache.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <vector>

namespace helix {
namespace {

constexpr std::int64_t batch = 3, growth = 32;
const std::vector<std::int64_t> layers{1, 4};  // of a model

/// Attention over `tokens` local tokens of every request is a number in each place.
bool all_numbers(Backend& backend, KvView view, std::int64_t tokens) {
  const std::vector<std::int64_t> lengths(batch, tokens);
  view.lengths = lengths.data();
  constexpr std::int64_t q_heads = 4;
  const std::vector<BF16> q(static_cast<std::size_t>(batch * q_heads * view.shape.head_dim), to_bf16(0.125f));
  std::vector<BF16> o(static_cast<std::size_t>(batch * q_heads * view.shape.v_dim));
  std::vector<float> lse(static_cast<std::size_t>(batch * q_heads));
  const auto scratch = backend.allocate(backend.attention_scratch_bytes(view.shape, batch, q_heads));
  backend.attention(view, batch, q_heads, 0.125f, q.data(), o.data(), lse.data(),
                    {scratch->data(), scratch->bytes()});
  return std::ranges::none_of(o, [](BF16 x) { return std::isnan(to_float(x)); });
}

}  // namespace

TEST_CASE("a cache: each page once, an invalid entry behind the last, NaN behind the history") {
  const auto backend = make_cpu_backend(1);
  std::unique_ptr<Buffer> memory;
  for (DType dtype : {DType::bf16, DType::fp8}) {
    for (const KvShape& shape : {KvShape{AttentionKind::gqa, 2, 64, 64, 32, dtype},
                                 KvShape{AttentionKind::mla, 1, 576, 512, 32, dtype}}) {
      // Within a page, at its end, and a shard that holds nothing yet.
      for (std::int64_t tokens : {70, 96, 0}) {
        CAPTURE(static_cast<int>(shape.kind), name(dtype), tokens);
        const CacheRoom room{.shape = shape,
                             .layers = layers,
                             .requests = batch,
                             .history = {64, 64 + tokens},
                             .growth = growth};
        KvCache cache = KvCache::make(*backend, {&room, 1}, memory).front();
        cache.fill_history({.seed = 5, .requests = {{0, batch}}, .global_kv_heads = shape.kv_heads});
        for (const std::int64_t layer : layers) {
          const KvView view = cache.layer(layer);
          std::set<std::int32_t> ids;
          for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t p = 0; p + 1 < view.max_pages; ++p)
              ids.insert(view.page_table[b * view.max_pages + p]);
            CHECK(view.page_table[(b + 1) * view.max_pages - 1] < 0);
            CHECK(view.lengths[b] == tokens);
            CHECK(cache.slots()[b] == tokens);
          }
          const std::int64_t pages = batch * (view.max_pages - 1);
          CHECK(std::ssize(ids) == pages);
          CHECK(*ids.begin() == 0);
          CHECK(*ids.rbegin() == pages - 1);
          CHECK((view.max_pages - 1) * shape.tokens_per_page >= tokens + growth);
          if (tokens > 0) CHECK(all_numbers(*backend, view, tokens));
          CHECK_FALSE(all_numbers(*backend, view, tokens + 1));
          CHECK_FALSE(all_numbers(*backend, view, tokens + growth));
        }
      }
    }
  }
}

TEST_CASE("rewinding a cache forgets what was appended") {
  const auto backend = make_cpu_backend(1);
  std::unique_ptr<Buffer> memory;
  const CacheRoom room{.shape = {AttentionKind::gqa, 2, 64, 64, 32, DType::bf16},
                       .layers = layers,
                       .requests = batch,
                       .history = {0, 7},
                       .growth = growth};
  KvCache cache = KvCache::make(*backend, {&room, 1}, memory).front();
  std::vector<std::int64_t> positions(batch, 6);
  cache.rewind();
  backend->advance(batch, Append::grows, positions.data(), cache.slots(), cache.lengths());
  backend->advance(batch, Append::grows, positions.data(), cache.slots(), cache.lengths());
  CHECK(cache.lengths()[batch - 1] == 9);
  CHECK(cache.slots()[batch - 1] == 8);
  cache.rewind();
  CHECK(cache.lengths()[batch - 1] == 7);
  CHECK(cache.slots()[batch - 1] == 7);
}

TEST_CASE("caches of a model share memory, and the replaced tokens of a history come back") {
  const auto backend = make_cpu_backend(1);
  const KvShape shape{AttentionKind::gqa, 2, 64, 64, 32, GENERATE(DType::bf16, DType::fp8)};
  std::unique_ptr<Buffer> memory;
  const std::vector<CacheRoom> rooms{
      {.shape = shape, .layers = {0, 2}, .requests = batch, .history = {0, 200}, .growth = growth},
      {.shape = shape, .layers = {1}, .requests = batch, .history = {160, 200}}};
  std::vector<KvCache> caches = KvCache::make(*backend, rooms, memory);
  CHECK(memory->bytes() == KvCache::bytes_needed(*backend, rooms));
  for (KvCache& cache : caches)
    cache.fill_history({.seed = 5, .requests = {{0, batch}}, .global_kv_heads = shape.kv_heads});

  const std::vector<std::byte> before(memory->data(), memory->data() + memory->bytes());
  const std::vector<BF16> row(static_cast<std::size_t>(batch * 2 * 64), to_bf16(0.5f));
  std::vector<std::int64_t> slots;
  for (const std::int64_t slot : {0, 1, 2}) {
    slots.assign(batch, slot);
    backend->kv_append(caches[1].layer(1), batch, slots.data(), row.data(), 128, row.data(), 128);
  }
  const auto same = [&] { return std::equal(before.begin(), before.end(), memory->data()); };
  CHECK_FALSE(same());
  caches[1].rewind(2);  // the page that the third lies in is made anew as a whole
  CHECK(same());
  for (const std::int64_t slot : {33, 39}) {
    slots.assign(batch, slot);
    backend->kv_append(caches[1].layer(1), batch, slots.data(), row.data(), 128, row.data(), 128);
  }
  caches[1].rewind(1000);
  CHECK(same());
}

}  // namespace helix
