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

/// Storage types, block length, and how drafts attend.
std::uint64_t storage(const DecodeShape& shape) {
  const std::uint64_t of_parts = shape.weights ? shape.weights->key() << 26 : 0;
  return of_parts ^ pack(static_cast<int>(shape.weight_dtype) + 8 * static_cast<int>(shape.kv_dtype) +
                             64 * static_cast<int>(shape.draft_kv),
                         shape.tokens_per_block);
}

/// Cached tokens, what is exchanged, and drafted tokens.
std::uint64_t cached(const DecodeShape& shape) {
  const std::uint64_t exchange = static_cast<std::uint64_t>(shape.exchange.queries) +
                                 2 * static_cast<std::uint64_t>(shape.exchange.merge) +
                                 4 * static_cast<std::uint64_t>(shape.exchange.projection);
  return static_cast<std::uint64_t>(shape.context) | exchange << 41 |
         static_cast<std::uint64_t>(shape.draft_tokens) << 44;
}

/// A draft layer is on one stage, however many others there are; without it stages do not matter to a layer's cost.
int drafting_stages(const Sharding& s, const DecodeShape& shape) {
  return shape.draft_tokens > 0 ? s.pp : 1;
}

}  // namespace

template <class Part>
template <class Price>
const Part& Planner::Table<Part>::find_or_price(const Key& key, Price price) {
  // Configurations that share a part stand close together in a sweep: a full table starts anew, so that a
  // search of any size stays small.
  constexpr std::size_t most_parts = std::size_t{1} << 15;
  if (last_ != nullptr && last_->first == key) return last_->second;
  auto found = parts_.find(key);
  if (found == parts_.end()) {
    if (parts_.size() >= most_parts) parts_.clear();
    found = parts_.emplace(key, price()).first;
  }
  last_ = &*found;
  return found->second;
}

std::size_t Planner::KeyHash::operator()(const Key& key) const {
  std::uint64_t hash = 0;
  for (const std::uint64_t part : key.words) {
    hash = (hash ^ part) * 0x9e3779b97f4a7c15ull;
    hash ^= hash >> 29;
  }
  return hash;
}

const Planner::Capacity& Planner::capacity(const Sharding& s, const DecodeShape& shape, std::uint64_t types) {
  const DecodeStep step{model_, s, shape};
  const auto drafts = static_cast<std::uint64_t>(shape.draft_tokens);
  const auto redundant = static_cast<std::uint64_t>(shape.redundant_experts);
  const auto stages = static_cast<std::uint64_t>(drafting_stages(s, shape));
  return capacity_.find_or_price(
      {pack(s.kvp, s.tpa, s.dp), cached(shape) | redundant << 50, pack(s.tpf, s.ep, s.pp), types}, [&] {
        const HeldBytes& attention = held_by_attention_.find_or_price(
            {pack(s.kvp, s.tpa), cached(shape), stages, types}, [&] { return held_by_attention(step); });
        const HeldBytes& ffn = held_by_ffn_.find_or_price(
            {pack(s.tpf, s.ep, attends_whole_requests(s)), drafts | stages << 32, redundant, types},
            [&] { return held_by_ffn(step); });
        const DecodeShape served = as_served(s, shape, system_);
        const HeldBytes& head =
            held_by_head_.find_or_price({pack(s.stage_ranks(), s.pp), drafts, served.whole_head, types}, [&] {
              return held_by_head({model_, s, served});
            });
        const MemoryModel memory = memory_model(step, attention, ffn, head);
        return Capacity{memory, memory.max_batch(system_.dram.usable_bytes())};
      });
}

bool Planner::fits(const Sharding& s, const DecodeShape& shape) {
  return capacity(s, shape, storage(shape)).memory.bytes(shape.batch) <= system_.dram.usable_bytes();
}

StepCost Planner::step(const Sharding& s, const DecodeShape& shape, std::uint64_t types) {
  const std::int64_t requests = stage_batch(s, shape);
  const DecodeShape computed = as_computed(s, shape, system_);
  const DecodeStep step{model_, s, computed};
  const std::int64_t rows = stage_rows(s, computed);
  // A single rank has no all-reduce to take the norms along; ranks with requests of their
  // own exchange tokens; groups with requests of their own may keep their sums.
  const int kind = s.stage_ranks() == 1        ? 1
                   : attends_whole_requests(s) ? 2
                   : computed.sums_in_group    ? 2 + s.kvp * s.tpa
                                               : 0;
  const std::int64_t stages = drafting_stages(s, shape);
  const auto skew = std::bit_cast<std::uint64_t>(shape.expert_skew);

  const StepCost& common = common_.find_or_price(
      {pack(s.stage_ranks(), s.pp, kind), static_cast<std::uint64_t>(shape.draft_tokens),
       pack(requests, rows, computed.padded_rows > 0), types},
      [&] { return common_cost(step, system_); });
  const StepCost& attention = attention_.find_or_price(
      {pack(s.kvp, s.tpa, kind), cached(shape) | static_cast<std::uint64_t>(stages) << 50,
       pack(attended_batch(s, shape), shape.hop_b, kept_rows(s, computed)), types},
      [&] { return attention_cost(step, system_); });
  const StepCost& ffn =
      ffn_.find_or_price({pack(s.tpf, s.ep, kind), skew,
                          pack(rows, shape.draft_tokens + stages * 64, shape.redundant_experts), types},
                         [&] { return ffn_cost(step, system_); });
  return whole_step(common, attention, ffn, layer_repeats(model_, s));
}

double Planner::ttl_us(const Sharding& s, const DecodeShape& shape) {
  return step(s, shape, storage(shape)).phases.total();
}

Prediction Planner::predict(const Sharding& s, const DecodeShape& shape) {
  const std::uint64_t types = storage(shape);
  const Capacity& room = capacity(s, shape, types);
  return assemble(step(s, shape, types), room.memory, room.max_batch, s, shape, system_);
}

}  // namespace helix
