// Whether a point of a sweep runs here, and as which engine: the one statement of it, for sweep and verify.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/ops/backend.hpp"
#include "sweeps/launch/world.hpp"
#include "sweeps/measure/engine_host.hpp"
#include "sweeps/request/enumerate.hpp"

namespace helix {

/// How much of a point an engine runs.
struct EngineExtent {
  std::int64_t layers = 0;        // of the model's, from the first on
  std::int64_t least_layers = 0;  // with less a stage would lack a layer, or a kind of layer, that counts
  std::int64_t steps = 0;         // between rewinds
};
struct Admission {
  std::string reason;  // why the point does not run; empty: it runs, as the engine that is
  std::optional<EngineRequest> engine{};
};
/// Whether a point runs on this backend and in this world: the one statement of it. Its parts are below.
Admission admit(const SweepPoint& point, const EngineExtent& extent, std::uint64_t seed, Backend& backend,
                const World& world);

/// Why the backend does not run a point: illegal, or of a kind that is only predicted; empty if it runs.
std::string why_not_measured(const SweepPoint& point, const Backend& backend);
/// What the engine takes on the busiest rank: as predicted, but for the cache, which has room for `steps`
/// steps, and pages as the backend's kernels want them.
double engine_bytes(const Instance& instance, std::int64_t steps, const Backend& backend);
/// Says that ranks would have to exchange longer messages than MPI counts; empty if they need not.
std::string why_not_exchanged(const Instance& instance);
/// Says that a point which needs so much memory does not fit, with both numbers; empty if it does.
std::string why_not_fitting(double bytes_per_rank, const World& world);
/// Layers that a point measures: what it asks for, at most the model's depth.
std::int64_t layers_to_measure(const Configuration& config, const ModelSpec& model);
/// The model cut to its first `layers` layers.
ModelSpec truncated(const ModelSpec& model, std::int64_t layers);
/// As the engine steps it: without draft layers, where it does not make the step's drafts with one.
ModelSpec as_stepped(ModelSpec model, const Sharding& sharding, const DecodeShape& shape);

/// Rank 0's cache in each layer.
KvShape first_ranks_cache(const SweepPoint& point);
/// Why the backend has no kernels for a legal point, so that its calibration cannot predict it either.
std::string why_no_kernels(const SweepPoint& point, const Backend& backend);

}  // namespace helix
