// Clocks that watch a decode step. A model of which only the first layers are run is scaled to its full
// depth: each kind of layer by how many of that kind the model has for each one that was run, stage by stage.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/decode_engine.hpp"

namespace helix {

/// For each layer of the first `layers`: layers of its kind that its pipeline stage has in the whole model /
/// layers of its kind that it has among these.
std::vector<double> depth_weights(const ModelSpec& model, const Sharding& sharding, std::int64_t layers);

/// As few of the first layers as give every pipeline stage each kind of layer that it has in the whole model.
std::int64_t least_layers(const ModelSpec& model, const Sharding& sharding);

/// One step's time, looking at the clock only between layers.
class LayerClock final : public StepObserver {
 public:
  explicit LayerClock(std::vector<double> weights) : weights_(std::move(weights)) {}

  void start() {
    scaled_us_ = 0;
    start_ = last_ = Clock::now();
  }
  void layers_begin() override { scaled_us_ += lap_us(); }
  void layer_done(std::int64_t layer) override {
    scaled_us_ += weights_[static_cast<std::size_t>(layer)] * lap_us();
  }
  /// Time of the step since start(), scaled to the full depth.
  double stop_us() { return scaled_us_ + lap_us(); }
  /// What the step really took, until the last stop_us().
  double elapsed_us() const { return std::chrono::duration<double, std::micro>(last_ - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  double lap_us() {
    const Clock::time_point now = Clock::now();
    const double us = std::chrono::duration<double, std::micro>(now - last_).count();
    last_ = now;
    return us;
  }

  std::vector<double> weights_;
  double scaled_us_ = 0;
  Clock::time_point start_, last_;
};

/// The same by phase. Waits for the backend at each phase's end, so it is used in a pass of its own.
class PhaseClock final : public StepObserver {
 public:
  PhaseClock(std::vector<double> weights, Backend& backend)
      : weights_(std::move(weights)), backend_(backend) {}

  void start() {
    times_ = {};
    layer_ = {};
    last_ = Clock::now();
  }
  void phase_done(Phase phase) override {
    backend_.synchronize();
    const Clock::time_point now = Clock::now();
    layer_[phase] += std::chrono::duration<double, std::micro>(now - last_).count();
    last_ = now;
  }
  void layers_begin() override { add_layer(1.0); }
  void layer_done(std::int64_t layer) override { add_layer(weights_[static_cast<std::size_t>(layer)]); }
  PhaseTimes stop() {
    add_layer(1.0);
    return times_;
  }

 private:
  using Clock = std::chrono::steady_clock;
  void add_layer(double weight) {
    for (std::size_t p = 0; p < phase_count; ++p) times_.us[p] += weight * layer_.us[p];
    layer_ = {};
  }

  std::vector<double> weights_;
  Backend& backend_;
  PhaseTimes times_, layer_;
  Clock::time_point last_;
};

}  // namespace helix
