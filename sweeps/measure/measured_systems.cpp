#include "sweeps/measure/measured_systems.hpp"

#include <algorithm>

#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"

namespace helix {

MeasuredSystems::MeasuredSystems(const std::string& choice, const World& world, Backend& backend,
                                 RankGroups& groups)
    : world_(world), backend_(backend), groups_(groups) {
  if (choice == "auto") return;
  systems_[named] = load_system(choice);
  systems_[named].dram.memory_fraction = world.memory_fraction;
}

void MeasuredSystems::prepare(const std::vector<SweepPoint>& points) {
  if (systems_.contains(named)) return;
  std::map<int, CalibrationRequest> requests;
  for (const SweepPoint& point : points) {
    const int ranks = point.config.sharding.ranks();
    if (!why_not_measured(point, backend_).empty()) continue;
    auto [entry, added] = requests.try_emplace(ranks);
    CalibrationRequest& request = entry->second;
    if (added) request.weight_dtypes = request.kv_dtypes = {};
    const auto same_model = [&](const ModelSpec& m) { return m.name == point.model->name; };
    if (std::ranges::none_of(request.models, same_model)) request.models.push_back(*point.model);
    const auto note = [](std::vector<DType>& seen, DType dtype) {
      if (std::ranges::count(seen, dtype) == 0) seen.push_back(dtype);
    };
    note(request.weight_dtypes, point.config.shape.weight_dtype);
    note(request.kv_dtypes, point.config.shape.kv_dtype);
  }
  std::unique_ptr<Buffer> memory;
  for (const auto& [ranks, request] : requests) {
    const MPI_Comm group = groups_.first(ranks);
    std::string yaml;
    if (group != MPI_COMM_NULL) yaml = to_yaml(calibrate(backend_, group, world_, request, memory));
    const ActivityFlag idle(&Activity::bystander, group == MPI_COMM_NULL);
    wait_idle(world_.comm);
    systems_[ranks] = parse_system(broadcast_text(yaml, 0, world_.comm), "calibration");
    systems_[ranks].dram.memory_fraction = world_.memory_fraction;
  }
}

const SystemSpec& MeasuredSystems::of(int ranks) const {
  static const SystemSpec unknown;
  const auto found = systems_.find(systems_.contains(named) ? named : ranks);
  return found == systems_.end() ? unknown : found->second;
}

}  // namespace helix
