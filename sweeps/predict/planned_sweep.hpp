// A request's points with their predictions on each of its systems.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "roofline/cost/planner.hpp"
#include "roofline/system/system_spec.hpp"
#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// What unset lists mean to a prediction: every strategy and width, HOP-B off and on, a million tokens, and
/// batches up to what memory may hold.
SweepDefaults predict_defaults();

class PlannedSweep {
 public:
  /// Loads systems and models. Throws UsageError: `auto` is no system here, since it would
  /// calibrate this machine.
  explicit PlannedSweep(const SweepRequest& request);

  const std::vector<SystemSpec>& systems() const { return systems_; }
  const ModelTable& models() const { return models_; }

  /// A point on a system; no prediction if it is illegal. That of what does not fit the memory says so.
  using Visit = std::function<void(const SweepPoint& point, const SystemSpec& system,
                                   const Prediction* prediction, std::size_t ordinal)>;
  /// Visits system after system; `ordinal` counts the points that fit, over all systems. `wanted`: of these the
  /// only ones to price and visit; what does not fit has no prediction then. Nothing: all.
  void walk(const Visit& visit, const std::function<bool(std::size_t ordinal)>& wanted = {});
  /// Every point, legal or not, without a prediction; `max` and `on` are what the model says on this system.
  void enumerate(const SystemSpec& system, const std::function<void(const SweepPoint&)>& visit);
  /// Prices a legal point.
  Prediction predict(const SweepPoint& point, const SystemSpec& system);
  /// Forgets what has been priced.
  void forget();

  /// The row of a point; its id names the system where several are compared.
  ResultRow row(const SweepPoint& point, const SystemSpec& system, const Prediction* prediction) const;

 private:
  void settle(SweepPoint& point, const SystemSpec& system);

  const SweepRequest& request_;
  std::vector<SystemSpec> systems_;
  ModelTable models_;
  std::map<std::pair<const ModelSpec*, const SystemSpec*>, Planner> planners_;
};

}  // namespace helix
