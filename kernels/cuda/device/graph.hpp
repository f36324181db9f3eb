// Steps as CUDA graphs, and events that time them from inside.
#pragma once

#include <functional>
#include <memory>

#include "kernels/cuda/device/stream.hpp"
#include "kernels/ops/device.hpp"

namespace helix::cuda {

std::unique_ptr<Stopwatch> make_event_stopwatch(Stream stream);

/// Throws std::logic_error, saying `what` must not be done, if the stream's ops are being captured.
void refuse_in_capture(Stream stream, const char* what);

/// What `ops` sends to the stream, as a graph that is ready to be launched there.
std::unique_ptr<Recording> capture_graph(Stream stream, const std::function<void()>& ops);

}  // namespace helix::cuda
