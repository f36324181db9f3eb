// Which rank has which token, by simulating every rank's slots as the engine's ops fill them.
#include "roofline/step/kept_tokens.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <vector>

using namespace helix;

namespace {

using Positions = std::vector<std::int64_t>;

Positions range(std::int64_t begin, std::int64_t end) {
  Positions all(static_cast<std::size_t>(end - begin));
  std::iota(all.begin(), all.end(), begin);
  return all;
}

/// The slots of one rank, each with the position that lies there.
struct Shard {
  Positions slots;
  std::size_t last;  // that was written

  explicit Shard(Range history) : slots(range(history.begin, history.end)), last(slots.size()) {}

  void take(Append append, std::int64_t position) {
    if (append == Append::grows) {
      last = slots.size();
      slots.push_back(position);
    } else if (append == Append::replaces) {
      last = last + 1 < slots.size() ? last + 1 : 0;
      slots.at(last) = position;
    }
  }
};

}  // namespace

TEST_CASE("every step's ranks hold together the last tokens of the window, each once") {
  const std::int64_t context = GENERATE(0, 1, 5, 12, 13, 14, 29, 100);
  const std::int64_t window = GENERATE(0, 1, 2, 8, 13, 30);
  const int block = GENERATE(1, 3, 4, 16), kvp = GENERATE(1, 2, 3, 4);
  const std::int64_t first_turn = GENERATE(0, 2, 12);
  CAPTURE(context, window, block, kvp, first_turn);
  const KeptTokens kept{.context = context, .window = window, .tokens_per_block = block, .kvp = kvp};
  std::vector<Shard> shards;
  for (int rank = 0; rank < kvp; ++rank) shards.emplace_back(kept.history_of(rank));
  for (std::int64_t step = 0; step < 70; ++step) {
    for (int rank = 0; rank < kvp; ++rank)
      shards[static_cast<std::size_t>(rank)].take(kept.append(step, first_turn, rank), context + step);
    Positions held;
    for (int rank = 0; rank < kvp; ++rank) {
      const Positions& slots = shards[static_cast<std::size_t>(rank)].slots;
      held.insert(held.end(), slots.begin(), slots.end());
      CHECK(std::ssize(slots) <= kept.history_of(rank).size() + kept.growth(step + 1));
    }
    std::ranges::sort(held);
    const std::int64_t end = context + step + 1;
    REQUIRE(held == range(window > 0 ? std::max<std::int64_t>(0, end - window) : 0, end));
    CHECK(std::ssize(held) == kept.history() + kept.grown(step + 1));
  }
}
