#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "backend/paged_cache.hpp"
#include "kernels/ops/score_order.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

KvShape index_keys(std::int64_t dim, DType dtype, int page = 32) {
  return {AttentionKind::mla, 1, dim, dim, page, dtype};
}

std::vector<std::int32_t> tokens_of(const std::vector<ScoredToken>& best, std::int64_t first,
                                    std::int64_t room) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = first; i < first + room; ++i)
    tokens.push_back(best[static_cast<std::size_t>(i)].token);
  return tokens;
}

/// The `room` first in the order (higher score, lower index), by index; padded with -1.
std::vector<std::int32_t> expected_best(const std::vector<float>& scores, std::int64_t room) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](std::int32_t a, std::int32_t b) {
    return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(room)));
  std::ranges::sort(order);
  order.resize(static_cast<std::size_t>(room), -1);
  return order;
}

/// Scores of few different values, so that the cut goes through equal ones: negative, both zeros, tiny, large.
std::vector<float> scores_with_ties(std::size_t count, int seed) {
  const std::vector<float> levels{-3e4f, -1.5f, -0.0f, 0.0f, 1e-30f, 0.25f, 0.250001f, 7e8f};
  std::vector<float> scores;
  for (const float x : random_floats(count, seed))
    scores.push_back(levels[static_cast<std::size_t>(std::fabs(x) * 1e6f) % levels.size()]);
  return scores;
}

}  // namespace

TEST_CASE("backend: the order of scores is that of numbers, above 0, with a NaN on top") {
  const std::vector<float> rising{-HUGE_VALF, -2.0f, -1e-40f, 0.0f, 1e-40f, 2.0f, HUGE_VALF};
  for (std::size_t i = 1; i < rising.size(); ++i) CHECK(score_order(rising[i - 1]) < score_order(rising[i]));
  CHECK(score_order(rising.front()) > 0);
  CHECK(score_order(-0.0f) == score_order(0.0f));
  CHECK(score_order(nan_value) > score_order(HUGE_VALF));
  CHECK(score_order(-nan_value) > score_order(HUGE_VALF));
}

TEST_CASE("backend: index_best scores every cached key and offers the best of them in order") {
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const std::int64_t dim = GENERATE(64, 128), heads = 5, room = 40;
  const int page = GENERATE(16, 32, 48);
  PagedCache cache(index_keys(dim, dtype, page), {130, 0, 1, 40, 97});
  cache.append_random();
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  const std::int64_t longest = 133;
  const std::vector<BF16> q = cache.random_row(batch * heads * dim, 1.0f);
  const std::vector<float> weights = random_floats(static_cast<std::size_t>(batch * heads), 7);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));

  const auto check = [&] {
    const DeviceVector<BF16> q_in(q);
    const DeviceVector<float> weights_in(weights),
        scores(static_cast<std::size_t>(batch * longest), nan_value);
    const DeviceVector<ScoredToken> best(static_cast<std::size_t>(batch * room), ScoredToken{nan_value, 99});
    device().index_best(cache.view(), batch, {q_in.data(), weights_in.data(), heads, scale}, room,
                        best.data(), scores.data(), longest);
    const std::vector<float> got = scores.values();
    const std::vector<ScoredToken> offered = best.values();
    for (std::int64_t b = 0; b < batch; ++b) {
      const std::int64_t tokens = cache.lengths()[static_cast<std::size_t>(b)];
      std::vector<float> of_request;
      for (std::int64_t t = 0; t < tokens; ++t) {
        double expected = 0.0, magnitude = 0.0;
        for (std::int64_t h = 0; h < heads; ++h) {
          double dot = 0.0, terms = 0.0;
          for (std::int64_t d = 0; d < dim; ++d) {
            const double term =
                as_double(q[static_cast<std::size_t>((b * heads + h) * dim + d)]) * cache.k(b, t, 0, d);
            dot += term;
            terms += std::fabs(term);
          }
          const double weight = static_cast<double>(weights[static_cast<std::size_t>(b * heads + h)]);
          expected += weight * std::max(0.0, static_cast<double>(scale) * dot);
          magnitude += std::fabs(weight) * static_cast<double>(scale) * terms;
        }
        const float score = got[static_cast<std::size_t>(b * longest + t)];
        of_request.push_back(score);
        // fp32 sums of `dim` products and `heads` terms: each addition errs by 2^-24 of what it has.
        if (!(std::fabs(static_cast<double>(score) - expected) <=
              static_cast<double>(dim + heads) * 0x1p-24 * magnitude)) {
          FAIL("request " << b << ", token " << t << ": " << score << " not " << expected);
        }
      }
      CHECK(tokens_of(offered, b * room, room) == expected_best(of_request, room));
      for (std::int64_t i = 0; i < std::min(room, tokens); ++i) {
        const ScoredToken& one = offered[static_cast<std::size_t>(b * room + i)];
        CHECK(one.score == of_request[static_cast<std::size_t>(one.token)]);
      }
    }
  };
  on_every_path(check);
  in_every_order_of_threads(check);
}

TEST_CASE("backend: equal scores: the lower token is offered") {
  const std::int64_t dim = 64, heads = 1, room = 5, tokens = 50;
  PagedCache cache(index_keys(dim, DType::bf16), {tokens});
  const std::vector<BF16> same = cache.random_row(dim, 1.0f);
  for (std::int64_t t = 0; t < tokens; ++t) cache.append(0, t, same, {});
  const DeviceVector<BF16> q(static_cast<std::size_t>(dim), to_bf16(1.0f));
  const DeviceVector<float> weights(1, 1.0f), scores(static_cast<std::size_t>(tokens), nan_value);
  const DeviceVector<ScoredToken> best(static_cast<std::size_t>(room), ScoredToken{nan_value, 99});
  device().index_best(cache.view(), 1, {q.data(), weights.data(), heads, 1.0f}, room, best.data(),
                      scores.data(), tokens);
  CHECK(tokens_of(best.values(), 0, room) == std::vector<std::int32_t>{0, 1, 2, 3, 4});
}

TEST_CASE(
    "backend: choose_best keeps the same best of all parts' offers on every part, ties in their order") {
  const std::int64_t parts = GENERATE(1, 2, 3), batch = 3;
  const std::int64_t room = GENERATE(1, 40, 300);
  std::vector<ScoredToken> gathered(static_cast<std::size_t>(parts * batch * room), ScoredToken{1e30f, -1});
  // Request 1 has fewer tokens than there is room for, and the last part none of request 2.
  const auto offers = [&](std::int64_t part, std::int64_t b) {
    return b == 1 ? room / parts : b == 2 && part == parts - 1 ? 0 : room;
  };
  std::vector<std::vector<float>> all(static_cast<std::size_t>(batch));
  std::vector<std::vector<std::pair<std::int64_t, std::int32_t>>> owners(static_cast<std::size_t>(batch));
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t p = 0; p < parts; ++p) {
      const auto scores =
          scores_with_ties(static_cast<std::size_t>(offers(p, b)), static_cast<int>(10 * b + p));
      for (std::size_t i = 0; i < scores.size(); ++i) {
        const auto token = static_cast<std::int32_t>(3 * i + 1);
        gathered[static_cast<std::size_t>((p * batch + b) * room) + i] = {scores[i], token};
        all[static_cast<std::size_t>(b)].push_back(scores[i]);
        owners[static_cast<std::size_t>(b)].emplace_back(p, token);
      }
    }
  for (std::int64_t mine = 0; mine < parts; ++mine) {
    std::vector<std::vector<std::int32_t>> expected(static_cast<std::size_t>(batch));
    for (std::size_t b = 0; b < expected.size(); ++b)
      for (const std::int32_t i : expected_best(all[b], room))
        if (i >= 0 && owners[b][static_cast<std::size_t>(i)].first == mine)
          expected[b].push_back(owners[b][static_cast<std::size_t>(i)].second);
    in_every_order_of_threads([&] {
      const DeviceVector<ScoredToken> in(gathered);
      const DeviceVector<std::int32_t> tokens(static_cast<std::size_t>(batch * room), -7);
      const DeviceVector<std::int64_t> counts(static_cast<std::size_t>(batch), -7);
      device().choose_best(parts, mine, batch, in.data(), {tokens.data(), counts.data(), room});
      const auto chosen = tokens.values();
      const auto count = counts.values();
      for (std::size_t b = 0; b < expected.size(); ++b) {
        REQUIRE(count[b] == std::ssize(expected[b]));
        const auto first = chosen.begin() + static_cast<std::ptrdiff_t>(b) * room;
        CHECK(std::vector<std::int32_t>(first, first + count[b]) == expected[b]);
      }
    });
  }
}

TEST_CASE(
    "backend: attention over gathered tokens is that over these tokens alone; with all of them, the same "
    "bits") {
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const int page = GENERATE(16, 32, 48);
  const std::int64_t heads = 16, room = 100;
  PagedCache cache(mla(dtype, page), {100, 70, 0, 37});
  cache.append_random();
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  const std::vector<BF16> q = cache.random_row(batch * heads * 576, 1.0f);
  const bool all = GENERATE(true, false);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(batch * room), 1 << 30);
  std::vector<std::int64_t> counts;
  PagedCache picked(mla(dtype, page), all ? cache.lengths() : std::vector<std::int64_t>{34, 24, 0, 13}, 2);
  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < cache.lengths()[static_cast<std::size_t>(b)]; t += all ? 1 : 3, ++count) {
      tokens[static_cast<std::size_t>(b * room + count)] = static_cast<std::int32_t>(t);
      std::vector<BF16> row;
      for (std::int64_t d = 0; d < 576; ++d) row.push_back(to_bf16(static_cast<float>(cache.k(b, t, 0, d))));
      picked.append(b, count, row, {});
    }
    counts.push_back(count);
  }
  REQUIRE(counts == picked.lengths());
  on_every_path([&] {
    const KvView from = cache.view();
    const std::int64_t pages = from.shape.pages(room);
    std::vector<std::int32_t> table(static_cast<std::size_t>(batch * pages));
    std::iota(table.begin(), table.end(), 0);
    const DeviceVector<std::byte> memory(unwritten, table.size() * from.page_bytes);
    device().set_bytes(memory.data(), 0xff, table.size() * from.page_bytes);
    const DeviceVector<std::int32_t> table_in(table), tokens_in(tokens);
    const DeviceVector<std::int64_t> counts_in(counts);
    const KvView to{from.shape, memory.data(), from.page_bytes, table_in.data(), pages, counts_in.data()};
    device().gather_tokens(from, batch, {tokens_in.data(), counts_in.data(), room}, to);

    const auto run = [&](const KvView& view) {
      const DeviceVector<BF16> q_in(q), o(static_cast<std::size_t>(batch * heads * 512), to_bf16(0.0f));
      const DeviceVector<float> lse(static_cast<std::size_t>(batch * heads), nan_value);
      const DeviceVector<std::byte> scratch(unwritten,
                                            device().attention_scratch_bytes(view.shape, batch, heads));
      device().attention(view, batch, heads, 0.05f, q_in.data(), o.data(), lse.data(), scratch.span());
      return AttentionResult{o.values(), lse.values()};
    };
    const AttentionResult got = run(to), expected = run(picked.view());
    CHECK(got.lse == expected.lse);
    CHECK(std::ranges::equal(got.o, expected.o, {}, &BF16::bits, &BF16::bits));
    if (all) CHECK(got.lse == run(from).lse);
  });
}
