// From a sweep's lists to its points: every legal combination, and a reason for what was asked for
// and is none.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sweeps/request/configuration_id.hpp"
#include "sweeps/request/sweep_space.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// Models by what the request calls them: model_key.
using ModelTable = std::map<std::string, ModelSpec>;
/// Of one of a block's models, which a draft head makes another one.
std::string model_key(const SweepSpace& block, const std::string& model);

/// Loads every model that the blocks name.
ModelTable load_models(const std::vector<SweepSpace>& blocks);

struct SweepPoint {
  Configuration config;
  const ModelSpec* model = nullptr;  // in the ModelTable
  std::string skip_reason;           // empty: it can run
};

/// What unset lists mean.
struct SweepDefaults {
  std::int64_t max_ranks = 1;  // of an instance, where --ranks is not listed
  std::vector<std::int64_t> contexts{65536}, batches{1, 8};
  std::vector<Strategy> strategies{Strategy::helix, Strategy::tp};
  std::vector<std::int64_t> hop_b{1};
  /// Unset widths are `auto`, dp and pp too, unless attention's widths are listed and the ranks are not: then
  /// the layout is given.
  bool every_width = false;
  /// Settles what a legal layout leaves to the model: a batch or a context of 0 (`max`), a hop_b of 0 (`on`).
  /// Without it `max` is refused, and `on` is one piece a request.
  std::function<void(SweepPoint& point)> settle{};
};

/// Numbers of HOP-B's pieces that `on` chooses from: powers of two from 2, and one a request.
std::vector<int> hop_b_candidates(std::int64_t requests_of_a_group);

/// The space with what its unset lists mean.
SweepSpace resolved(SweepSpace space, const SweepDefaults& defaults);

/// Calls `visit` for each point of the block, one at a time: a space may have many millions.
/// Each combination of listed widths gives all its legal completions or, if it has none, one point with a
/// skip_reason; a list restricts the strategies that have that width (kvp: helix and medha; dp: helix and
/// dp+ep; pp: helix and tp+pp). Unset widths: kvp >= 2 where tp is asked for too (Helix with kvp = 1 is tp),
/// dp and pp 1 for helix; the FFN in one way: dense TPF = N, mixture of experts EP as wide as divides the
/// experts (tp: TPF = N). `auto`: all ways. Throws UsageError if a list applies to none of the strategies.
void for_each_point(const SweepSpace& space, const ModelTable& models, const SweepDefaults& defaults,
                    const std::function<void(const SweepPoint&)>& visit);

/// The points of all blocks, without repetitions, for a world of this many ranks; larger ones have a
/// skip_reason. A block without any width gives the grids of the whole launch (of as many of its ranks as
/// admit one). Throws UsageError if no point fits the world, naming the launch that would.
std::vector<SweepPoint> enumerate(const std::vector<SweepSpace>& blocks, const ModelTable& models,
                                  const SweepDefaults& defaults, std::int64_t world_ranks);

}  // namespace helix
