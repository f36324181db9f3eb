// The machine's figures for each number of ranks that a run uses.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "roofline/system/system_spec.hpp"
#include "sweeps/machine/calibrate.hpp"
#include "sweeps/measure/point_runner.hpp"

namespace helix {

class MeasuredSystems {
 public:
  /// `choice`: a built-in name, a file, or auto: calibrate. Its memory is bounded as the
  /// world's. Throws UsageError.
  MeasuredSystems(const std::string& choice, const World& world, Backend& backend, RankGroups& groups);

  /// Calibrates every group size that these points run in; nothing to do where a system was named. Collective
  /// over the world.
  void prepare(const std::vector<SweepPoint>& points);

  /// The machine as a group of `ranks` sees it, the same on every rank; empty for a size that no
  /// point runs in.
  const SystemSpec& of(int ranks) const;
  /// By group size; one entry 0 for a named system.
  const std::map<int, SystemSpec>& all() const { return systems_; }

 private:
  static constexpr int named = 0;

  const World& world_;
  Backend& backend_;
  RankGroups& groups_;
  std::map<int, SystemSpec> systems_;
};

}  // namespace helix
