#include "sweeps/launch/activity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "kernels/ops/out_of_memory.hpp"
#include "kernels/ops/work_counter.hpp"

namespace helix {
namespace {

Activity own;
std::atomic<Activity*> place{&own};

template <std::size_t size>
void assign(std::array<char, size>& field, std::string_view text) {
  const std::size_t length = std::min(text.size(), size - 1);
  std::copy_n(text.data(), length, field.data());
  field[length] = '\0';
}

}  // namespace

std::string Activity::text() const {
  std::string words;
  if (row.front() != '\0') words += fmt::format("row '{}', ", row.data());
  words += fmt::format("phase {}", phase.front() != '\0' ? phase.data() : "start");
  if (phase_done >= 0) {
    words += fmt::format(": {} after {}", layer >= 0 ? fmt::format("layer {}", layer.load()) : "embedding",
                         phase_names[static_cast<std::size_t>(phase_done.load())]);
  }
  return words;
}

Activity& activity() {
  return *place.load();
}

void keep_activity_in(Activity* where) {
  const Activity& before = activity();
  Activity& now = where != nullptr ? *where : own;
  if (&now == &before) return;
  now.row = before.row;
  now.phase = before.phase;
  place = &now;
}

void working_on_row(std::string_view id) {
  assign(activity().row, id);
  working_on("begin");
}

void working_on(std::string_view phase) {
  activity().phase_done = -1;
  activity().layer = -1;
  assign(activity().phase, phase);
  note_work();
}

void WatchedStep::step_begin() {
  activity().layer = -1;
  note_work();
  observer_.step_begin();
}

void WatchedStep::phase_done(Phase phase) {
  observer_.phase_done(phase);
  activity().phase_done = static_cast<int>(phase);
  note_work();
}

void WatchedStep::layers_begin() {
  observer_.layers_begin();
}

void WatchedStep::layer_done(std::int64_t layer) {
  observer_.layer_done(layer);
  activity().layer = layer + 1;
  note_work();
}

std::string message_of(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) == nullptr) return error.what();
  const std::string wanted = dynamic_cast<const OutOfMemory*>(&error) != nullptr
                                 ? error.what()
                                 : OutOfMemory::text(refused_bytes.load());
  return fmt::format("{} in {}", wanted, activity().text());
}

}  // namespace helix
