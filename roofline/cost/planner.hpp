// Predictions for millions of configurations of one model on one system: the parts of a decode step are
// priced once and looked up for every configuration that shares their widths.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "roofline/cost/predict.hpp"
#include "roofline/cost/step_cost.hpp"

namespace helix {

class Planner {
 public:
  /// Both must outlive the planner.
  Planner(const ModelSpec& model, const SystemSpec& system) : model_(model), system_(system) {}

  /// Equals helix::predict to the last bit.
  Prediction predict(const Sharding& sharding, const DecodeShape& shape);
  /// Its model_ttl_us alone.
  double ttl_us(const Sharding& sharding, const DecodeShape& shape);
  /// What its prediction's fits() would say, without pricing it.
  bool fits(const Sharding& sharding, const DecodeShape& shape);

 private:
  /// The widths and the shape that a part depends on.
  struct Key {
    std::uint64_t words[4];
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };
  /// What was priced. The last answer is at hand: neighbours in a sweep differ in one part.
  template <class Part>
  class Table {
   public:
    template <class Price>
    const Part& find_or_price(const Key& key, Price price);

   private:
    std::unordered_map<Key, Part, KeyHash> parts_;
    const std::pair<const Key, Part>* last_ = nullptr;
  };
  struct Capacity {
    MemoryModel memory;
    std::int64_t max_batch = 0;
  };

  /// `types`: a key of the shape's storage types.
  StepCost step(const Sharding& sharding, const DecodeShape& shape, std::uint64_t types);
  const Capacity& capacity(const Sharding& sharding, const DecodeShape& shape, std::uint64_t types);

  const ModelSpec& model_;
  const SystemSpec& system_;
  Table<StepCost> common_, attention_, ffn_;
  Table<Capacity> capacity_;
  Table<HeldBytes> held_by_head_, held_by_attention_, held_by_ffn_;
};

}  // namespace helix
