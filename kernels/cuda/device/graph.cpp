#include "kernels/cuda/device/graph.hpp"

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/device/cuda_check.hpp"

namespace helix::cuda {
namespace {

bool captures(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  HELIX_CUDA(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

class EventStopwatch final : public Stopwatch {
 public:
  explicit EventStopwatch(Stream stream) : stream_(stream) {}
  ~EventStopwatch() override {
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  EventStopwatch(const EventStopwatch&) = delete;
  EventStopwatch& operator=(const EventStopwatch&) = delete;

  void mark(std::size_t i) override {
    while (events_.size() <= i) HELIX_CUDA(cudaEventCreate(&events_.emplace_back()));
    // In a graph the event must be recorded at each launch, not only order the graph's own nodes.
    const unsigned flags = captures(stream_) ? cudaEventRecordExternal : cudaEventRecordDefault;
    HELIX_CUDA(cudaEventRecordWithFlags(events_[i], stream_, flags));
  }
  double us_between(std::size_t first, std::size_t second) override {
    float ms = 0;
    HELIX_CUDA(cudaEventElapsedTime(&ms, events_[first], events_[second]));
    return 1e3 * static_cast<double>(ms);
  }

 private:
  Stream stream_;
  std::vector<cudaEvent_t> events_;
};

class Graph final : public Recording {
 public:
  Graph(Stream stream, cudaGraph_t graph) : stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    HELIX_CUDA(status);
    HELIX_CUDA(cudaGraphUpload(executable_, stream_));  // the first launch is timed like the others
  }
  ~Graph() override { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void replay() override { HELIX_CUDA(cudaGraphLaunch(executable_, stream_)); }

 private:
  Stream stream_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

std::unique_ptr<Stopwatch> make_event_stopwatch(Stream stream) {
  return std::make_unique<EventStopwatch>(stream);
}

void refuse_in_capture(Stream stream, const char* what) {
  if (captures(stream)) throw std::logic_error(std::string(what) + " while a step is being recorded");
}

std::unique_ptr<Recording> capture_graph(Stream stream, const std::function<void()>& ops) {
  cudaGraph_t graph = nullptr;
  HELIX_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  try {
    ops();
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  HELIX_CUDA(cudaStreamEndCapture(stream, &graph));
  return std::make_unique<Graph>(stream, graph);
}

}  // namespace helix::cuda
