// The hand-over between pipeline stages. A stage works on one micro-batch after another; what it leaves goes
// to the next stage while it receives its next input, so that every stage has a micro-batch of its own once
// the pipeline is full. The tokens of the last stage go back to the first, which begins the requests' next
// step with them.
#include <utility>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

/// Hands on micro-batch `next` - 1 (0: none yet) and receives micro-batch `next` (none behind the last).
void DecodeEngine::hand_over(std::size_t next, StepObserver& observer) {
  if (sharding_.pp == 1) return;
  const auto tokens_of = [&](std::size_t m) {
    const Range requests = micro_batches_[m].requests;
    return std::pair{reinterpret_cast<std::byte*>(a_.tokens + requests.begin),
                     static_cast<std::size_t>(requests.size()) * sizeof(std::int32_t)};
  };
  std::pair<std::byte*, std::size_t> send{}, recv{};
  if (next > 0) {
    send = last_stage() ? tokens_of(next - 1)
                        : std::pair{reinterpret_cast<std::byte*>(a_.stream.residual), stream_bytes_};
  }
  if (next < micro_batches_.size()) {
    if (!first_stage()) {
      recv = {reinterpret_cast<std::byte*>(a_.incoming.residual), stream_bytes_};
    } else if (tokens_on_way_) {
      recv = tokens_of(next);
    }
  }
  const int to = (at_.pp + 1) % sharding_.pp, from = (at_.pp + sharding_.pp - 1) % sharding_.pp;
  groups_.pipeline->exchange(send.first, send.second, to, recv.first, recv.second, from);
  if (recv.second > 0 && !first_stage()) std::swap(a_.stream, a_.incoming);
  observer.phase_done(Phase::head);
}

void DecodeEngine::settle() {
  if (!tokens_on_way_) return;
  for (const MicroBatch& m : micro_batches_) {
    groups_.pipeline->exchange(nullptr, 0, 0, reinterpret_cast<std::byte*>(a_.tokens + m.requests.begin),
                               static_cast<std::size_t>(m.requests.size()) * sizeof(std::int32_t),
                               sharding_.pp - 1);
  }
  tokens_on_way_ = false;
}

}  // namespace helix
