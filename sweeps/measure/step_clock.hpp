// Clocks that watch a decode step. A model of which only the first layers are run is scaled to its full
// depth: each kind of layer by how many of that kind the model has for each one that was run, stage by stage.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

/// For each layer of the instance: layers of its kind that its pipeline stage has in the whole model / layers of
/// its kind that it has among these.
std::vector<double> depth_weights(const Instance& instance);

/// As few of the first layers as give every pipeline stage each kind of layer that it has in the whole model.
std::int64_t least_layers(const ModelSpec& model, const Sharding& sharding);

/// Mean of the middle half of the steps, by their totals. (Medians of each phase would add up to less than
/// the median step: what one phase is late by, a wait for another rank saves in the next.)
PhaseTimes typical_phases(std::vector<PhaseTimes> steps);

/// A step cut into intervals by marks of the device's stopwatch, set by what the step tells its observer. A
/// recorded step tells it while it is recorded, and sets the same marks whenever it is replayed: what it
/// takes to launch the recording is no part of the step.
class StepClock : public StepObserver {
 public:
  StepClock(std::vector<double> weights, Device& device)
      : weights_(std::move(weights)), stopwatch_(device.make_stopwatch()) {}

  /// What the step really took.
  double elapsed_us() const { return stopwatch_->us_between(first_mark, last_mark); }

  void step_begin() override {
    inner_ = 0;
    stopwatch_->mark(first_mark);
  }
  void step_end() override { stopwatch_->mark(last_mark); }

 protected:
  double weight(std::int64_t layer) const { return weights_[static_cast<std::size_t>(layer)]; }
  /// Are all layers of the model run?
  bool whole_model() const {
    return std::ranges::all_of(weights_, [](double weight) { return weight == 1.0; });
  }
  /// Ends an interval, and begins the next.
  void mark() { stopwatch_->mark(first_inner_mark + inner_++); }
  /// The intervals are the marks between and one.
  double interval_us(std::size_t i) const {
    return stopwatch_->us_between(i == 0 ? first_mark : first_inner_mark + i - 1,
                                  i == inner_ ? last_mark : first_inner_mark + i);
  }

 private:
  static constexpr std::size_t first_mark = 0, last_mark = 1, first_inner_mark = 2;

  std::vector<double> weights_;
  std::unique_ptr<Stopwatch> stopwatch_;
  std::size_t inner_ = 0;
};

/// One step's time, looking at the clock only between layers, and not even there if all of them are run.
class LayerClock final : public StepClock {
 public:
  using StepClock::StepClock;

  void step_begin() override {
    scale_.clear();
    StepClock::step_begin();
  }
  void layers_begin() override { end_interval(1.0); }
  void layer_done(std::int64_t layer) override { end_interval(weight(layer)); }
  /// Time of the last step, scaled to the full depth.
  double us() const {
    double us = interval_us(scale_.size());
    for (std::size_t i = 0; i < scale_.size(); ++i) us += scale_[i] * interval_us(i);
    return us;
  }

 private:
  void end_interval(double scale) {
    if (whole_model()) return;
    scale_.push_back(scale);
    mark();
  }

  std::vector<double> scale_;  // of each interval but the last
};

/// The same by phase, used in steps of its own: its marks take time, too.
class PhaseClock final : public StepClock {
 public:
  using StepClock::StepClock;

  void step_begin() override {
    intervals_.clear();
    layer_begin_ = 0;
    StepClock::step_begin();
  }
  void phase_done(Phase phase) override {
    mark();
    intervals_.push_back({phase, 1.0});
  }
  void layers_begin() override { layer_begin_ = intervals_.size(); }
  void layer_done(std::int64_t layer) override {
    for (; layer_begin_ < intervals_.size(); ++layer_begin_) intervals_[layer_begin_].scale = weight(layer);
  }
  PhaseTimes times() const {
    PhaseTimes times;
    for (std::size_t i = 0; i < intervals_.size(); ++i) {
      times[intervals_[i].phase] += intervals_[i].scale * interval_us(i);
    }
    return times;
  }

 private:
  struct Interval {
    Phase phase;
    double scale;
  };
  std::vector<Interval> intervals_;
  std::size_t layer_begin_ = 0;  // the first interval of the layer that runs
};

}  // namespace helix
