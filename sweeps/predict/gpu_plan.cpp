#include "sweeps/predict/gpu_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <tuple>

#include "roofline/base/error.hpp"
#include "roofline/step/baseline.hpp"
#include "sweeps/predict/plan_summary.hpp"
#include "sweeps/results/costs.hpp"

namespace helix {
namespace {

/// Which numbers of HOP-B's pieces may be chosen.
struct HopChoice {
  bool off = false, best = false;
  std::vector<int> numbers;
};

HopChoice hop_choice(const SweepRequest& request) {
  HopChoice choice;
  for (const SweepSpace& block : request.blocks) {
    if (block.hop_b.empty()) choice.off = choice.best = true;
    for (const std::int64_t requested : block.hop_b) {
      if (requested == SweepSpace::best_hop_b) {
        choice.best = true;
      } else if (requested == 1) {
        choice.off = true;
      } else {
        choice.numbers.push_back(static_cast<int>(requested));
      }
    }
  }
  return choice;
}

/// Sizes of an instance: what divides the GPUs, and powers of two.
std::vector<std::int64_t> instance_sizes(int gpus) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = 1; size <= gpus; ++size) {
    if (gpus % size == 0 || (size & (size - 1)) == 0) sizes.push_back(size);
  }
  return sizes;
}

/// The request as layouts, each with the largest batch that fits.
SweepRequest layouts_of(SweepRequest request, int gpus) {
  for (SweepSpace& block : request.blocks) {
    if (block.batches.kind != Choice::Kind::unset && block.batches.kind != Choice::Kind::most) {
      throw UsageError("--gpus: solves for the batch; valid without --batch, or predict without --gpus");
    }
    if (block.acceptances.empty() && block.draft_tokens != std::vector<std::int64_t>{0})
      throw UsageError("--gpus: what is best with --draft-tokens depends on --acceptance; valid: both");
    block.batches = {Choice::Kind::most, {}};
    block.hop_b = {1};
    if (!block.ranks.listed()) block.ranks = {Choice::Kind::listed, instance_sizes(gpus)};
  }
  return request;
}

struct Candidate {
  SweepPoint point;
  Prediction prediction;
};

/// Prices one layout at any batch, with the best of the allowed numbers of pieces.
class Layout {
 public:
  Layout(PlannedSweep& sweep, const SystemSpec& system, const SweepPoint& point, const HopChoice& hop)
      : sweep_(sweep), system_(system), point_(point), hop_(hop), most_(point.config.shape.batch) {}

  std::int64_t fewest() const { return point_.config.sharding.dp; }
  std::int64_t most() const { return most_; }

  Candidate at(std::int64_t batch) {
    Candidate best{point_, {}};
    best.point.config.shape.batch = batch;
    SweepPoint tried = best.point;
    for (const int pieces : pieces_of(batch)) {
      tried.config.shape.hop_b = pieces;
      const Prediction p = sweep_.predict(tried, system_);
      if (best.prediction.model_ttl_us == 0 || p.model_ttl_us < best.prediction.model_ttl_us)
        best = {tried, p};
    }
    return best;
  }

  /// At the largest batch within the budget, the smallest batch if none is.
  Candidate within(double budget_us) {
    const auto meets = [&](const Candidate& candidate) {
      return point_.config.shape.token_us(candidate.prediction.model_ttl_us) <= budget_us;
    };
    Candidate inside = at(fewest());
    if (!meets(inside)) return inside;
    std::int64_t low = fewest(), beyond = most_ + 1;
    while (beyond - low > 1) {
      // The answer is often near neither end: doubling first, then halving.
      const std::int64_t middle = low * 2 < beyond ? low * 2 : low + (beyond - low) / 2;
      const Candidate candidate = at(middle);
      if (meets(candidate)) {
        low = middle;
        inside = candidate;
      } else {
        beyond = middle;
      }
    }
    return inside;
  }

  /// Of doubling batches and the largest the one with the largest product of tokens/s/user and tokens/s/GPU.
  Candidate knee() {
    const auto product = [](const Candidate& c) {
      return c.prediction.tokens_per_s_user * c.prediction.tokens_per_s_gpu;
    };
    Candidate best = at(most_);
    for (std::int64_t batch = fewest(); batch < most_; batch *= 2) {
      const Candidate candidate = at(batch);
      if (product(candidate) > product(best)) best = candidate;
    }
    return best;
  }

 private:
  std::vector<int> pieces_of(std::int64_t batch) const {
    const Sharding& s = point_.config.sharding;
    const std::int64_t per_group = batch / s.dp;
    if (!traits(point_.config.strategy).hop_b || s.kvp == 1 || per_group < 2) return {1};
    std::vector<int> pieces;
    if (hop_.off) pieces.push_back(1);
    for (const int number : hop_.numbers) {
      if (number <= per_group) pieces.push_back(number);
    }
    if (hop_.best) {
      for (const int number : hop_b_candidates(per_group)) pieces.push_back(number);
    }
    if (pieces.empty()) pieces.push_back(1);
    return pieces;
  }

  PlannedSweep& sweep_;
  const SystemSpec& system_;
  SweepPoint point_;
  const HopChoice& hop_;
  std::int64_t most_;
};

}  // namespace

double PlanAnswer::tokens_per_s() const {
  return static_cast<double>(users()) * row.prediction->tokens_per_s_user;
}

std::vector<GpuPlan> plan_gpus(const SweepRequest& request, int gpus) {
  const HopChoice hop = hop_choice(request);
  const SweepRequest layouts = layouts_of(request, gpus);
  PlannedSweep sweep(layouts);
  using Best = std::array<std::optional<PlanAnswer>, strategy_count>;
  struct Scene {
    GpuPlan plan;
    Best best;
    std::optional<PlanAnswer> fastest;  // whatever the budget
  };
  std::vector<Scene> scenes;
  using Key = std::tuple<const SystemSpec*, const ModelSpec*, std::int64_t, DType, DType>;
  std::map<Key, std::size_t> index;
  sweep.walk([&](const SweepPoint& point, const SystemSpec& system, const Prediction* p, std::size_t) {
    const Configuration& c = point.config;
    if (c.sharding.ranks() > gpus) return;
    const DecodeShape& shape = c.shape;
    const Key key{&system, point.model, shape.context, shape.weight_dtype, shape.kv_dtype};
    const auto [entry, added] = index.try_emplace(key, scenes.size());
    if (added)
      scenes.push_back({.plan = {.system = system, .model = *point.model, .shape = shape, .answers = {}},
                        .best = {},
                        .fastest = {}});
    if (!p || !p->fits()) return;
    Scene& scene = scenes[entry->second];
    Layout layout(sweep, system, point, hop);
    const Candidate chosen =
        request.ttl_budget_ms ? layout.within(*request.ttl_budget_ms * 1e3) : layout.knee();
    PlanAnswer answer{.row = sweep.row(chosen.point, system, &chosen.prediction),
                      .instances = gpus / c.sharding.ranks(),
                      .gain = {}};
    if (!answer.row.within_budget()) {
      const auto token_us = [](const PlanAnswer& a) {
        return a.row.config.shape.token_us(a.row.prediction->model_ttl_us);
      };
      if (!scene.fastest || token_us(answer) < token_us(*scene.fastest)) scene.fastest = answer;
      return;
    }
    auto& best = scene.best[static_cast<std::size_t>(counted_as(c.strategy, c.sharding))];
    const auto score = [&](const PlanAnswer& a) {
      return a.tokens_per_s() * (request.ttl_budget_ms ? 1.0 : a.row.prediction->tokens_per_s_user);
    };
    if (!best || score(answer) > score(*best)) best = std::move(answer);
  });

  std::vector<GpuPlan> plans;
  for (Scene& scene : scenes) {
    GpuPlan& plan = scene.plan;
    for (auto& best : scene.best) {
      if (best) plan.answers.push_back(*std::move(best));
    }
    std::ranges::stable_sort(plan.answers, std::greater<>{}, &PlanAnswer::tokens_per_s);
    for (std::size_t i = 0; plan.answers.size() > 1 && i < plan.answers.size(); ++i) {
      const PlanAnswer& other = plan.answers[i == 0 ? 1 : 0];
      plan.answers[i].gain = plan.answers[i].tokens_per_s() / other.tokens_per_s();
    }
    plan.reachable = !plan.answers.empty() || !scene.fastest;
    if (!plan.reachable) plan.answers = {*scene.fastest};
    // All GPUs are paid for, also those that no instance has.
    for (PlanAnswer& answer : plan.answers)
      set_costs(answer.row, request.bill, plan.system.board_watts, answer.tokens_per_s() / gpus);
    plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace helix
