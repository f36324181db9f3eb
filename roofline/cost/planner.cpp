#include "roofline/cost/planner.hpp"

#include <bit>

namespace helix {
namespace {

/// Several numbers in one word; legal widths and batches are at most 2^22 (see why_illegal), and two that
/// large do not meet in one configuration.
std::uint64_t pack(std::int64_t low, std::int64_t middle = 0, std::int64_t high = 0) {
  return static_cast<std::uint64_t>(low) ^ static_cast<std::uint64_t>(middle) << 23 ^
         static_cast<std::uint64_t>(high) << 43;
}

/// Storage types and block length.
std::uint64_t storage(const DecodeShape& shape) {
  const std::uint64_t of_parts = shape.weights ? shape.weights->key() << 26 : 0;
  return of_parts ^ pack(static_cast<int>(shape.weight_dtype) + 8 * static_cast<int>(shape.kv_dtype),
                         shape.tokens_per_block);
}

/// Cached tokens, what is exchanged, and drafted tokens.
std::uint64_t cached(const DecodeShape& shape) {
  const std::uint64_t exchange = static_cast<std::uint64_t>(shape.exchange.queries) +
                                 2 * static_cast<std::uint64_t>(shape.exchange.merge);
  return static_cast<std::uint64_t>(shape.context) | exchange << 41 |
         static_cast<std::uint64_t>(shape.draft_tokens) << 43;
}

/// The key by value: g++ takes a reference that a function returns for one into its temporary arguments.
template <class Part, class Table, class Key, class Price>
const Part& find_or_price(Table& table, Key key, Price price) {
  // Configurations that share a part stand close together in a sweep: a full table starts anew, so that a
  // search of any size stays small.
  constexpr std::size_t most_parts = std::size_t{1} << 15;
  const auto found = table.find(key);
  if (found != table.end()) return found->second;
  if (table.size() >= most_parts) table.clear();
  return table.emplace(key, price()).first->second;
}

}  // namespace

std::size_t Planner::KeyHash::operator()(const Key& key) const {
  std::uint64_t hash = 0;
  for (const std::uint64_t part : key) {
    hash = (hash ^ part) * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 29;
  }
  return hash;
}

const Planner::Capacity& Planner::capacity(const Sharding& s, const DecodeShape& shape) {
  const std::uint64_t types = storage(shape);
  const auto drafts = static_cast<std::uint64_t>(shape.draft_tokens);
  return find_or_price<Capacity>(
      capacity_, Key{pack(s.kvp, s.tpa, s.dp), cached(shape), pack(s.tpf, s.ep, s.pp), types}, [&] {
        const auto& attention =
            find_or_price<HeldBytes>(held_by_attention_, Key{pack(s.kvp, s.tpa), cached(shape), 0, types},
                                     [&] { return held_by_attention(model_, s, shape); });
        const auto& ffn = find_or_price<HeldBytes>(
            held_by_ffn_, Key{pack(s.tpf, s.ep, attends_whole_requests(s)), drafts, 0, types},
            [&] { return held_by_ffn(model_, s, shape); });
        const auto& head =
            find_or_price<HeldBytes>(held_by_head_, Key{pack(s.stage_ranks(), s.pp), drafts, 0, types},
                                     [&] { return held_by_head(model_, s, shape); });
        const MemoryModel memory = memory_model(model_, s, shape, attention, ffn, head);
        return Capacity{memory, memory.max_batch(system_.dram.usable_bytes())};
      });
}

bool Planner::fits(const Sharding& s, const DecodeShape& shape) {
  return capacity(s, shape).memory.bytes(shape.batch) <= system_.dram.usable_bytes();
}

Prediction Planner::predict(const Sharding& s, const DecodeShape& shape) {
  const std::uint64_t types = storage(shape);
  const std::int64_t requests = stage_batch(s, shape);
  const DecodeShape computed = as_computed(s, shape, system_);
  const std::int64_t rows = stage_rows(s, computed);
  // A single rank has no all-reduce to take the norms along; ranks with requests of their
  // own exchange tokens.
  const int kind = s.stage_ranks() == 1 ? 1 : attends_whole_requests(s) ? 2 : 0;
  const auto skew = std::bit_cast<std::uint64_t>(shape.expert_skew);

  const auto& common = find_or_price<StepCost>(
      common_,
      Key{pack(s.stage_ranks(), s.pp, kind), static_cast<std::uint64_t>(shape.draft_tokens),
          pack(requests, rows, computed.padded_rows > 0), types},
      [&] { return common_cost(model_, s, computed, system_); });
  const auto& attention =
      find_or_price<StepCost>(attention_,
                              Key{pack(s.kvp, s.tpa, kind), cached(shape),
                                  pack(attended_batch(s, shape), shape.hop_b, kept_rows(s, computed)), types},
                              [&] { return attention_cost(model_, s, computed, system_); });
  const auto& ffn =
      find_or_price<StepCost>(ffn_, Key{pack(s.tpf, s.ep, kind), skew, pack(rows, shape.draft_tokens), types},
                              [&] { return ffn_cost(model_, s, computed, system_); });
  const Capacity& room = capacity(s, shape);
  return assemble(common, attention, ffn, layer_repeats(model_, s), room.memory, room.max_batch, s, shape,
                  system_);
}

}  // namespace helix
