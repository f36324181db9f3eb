#include "kernels/engine/pipeline.hpp"

namespace helix {

Pipeline::Arrays::Arrays(Carver& carver, const RankPlan& plan) {
  const std::int64_t values = plan.largest().rows().size() * plan.model().hidden;
  const std::size_t delta_at = (static_cast<std::size_t>(values) * sizeof(float) + 63) / 64 * 64;
  stream_bytes = delta_at + static_cast<std::size_t>(values) * sizeof(BF16);
  const auto take_stream = [&] {
    auto* const data = carver.take<std::byte>(static_cast<std::int64_t>(stream_bytes));
    if (data == nullptr) return Stream{};
    return Stream{reinterpret_cast<float*>(data), reinterpret_cast<BF16*>(data + delta_at)};
  };
  tokens = carver.take<std::int32_t>(plan.rows());
  stream = take_stream();
  if (plan.sharding().pp > 1) incoming = take_stream();
}

Pipeline::Pipeline(const RankPlan& plan, const Groups& groups, const Arrays& arrays)
    : plan_(plan), groups_(groups), a_(arrays), state_{arrays.stream, arrays.incoming} {}

Pipeline::Message Pipeline::tokens_message(const MicroBatch& batch) const {
  return {reinterpret_cast<std::byte*>(tokens(batch)),
          static_cast<std::size_t>(batch.rows().size()) * sizeof(std::int32_t)};
}

void Pipeline::hand_over(std::size_t next, StepObserver& observer) {
  const int stages = plan_.sharding().pp, stage = plan_.at().pp;
  if (stages == 1) return;
  const auto stream_message = [&](const Stream& stream) {
    return Message{reinterpret_cast<std::byte*>(stream.residual), a_.stream_bytes};
  };
  Message send{}, recv{};
  if (next > 0) {
    send =
        plan_.last_stage() ? tokens_message(plan_.micro_batches()[next - 1]) : stream_message(state_.stream);
  }
  if (next < plan_.micro_batches().size()) {
    if (!plan_.first_stage()) {
      recv = stream_message(state_.incoming);
    } else if (state_.tokens_on_way) {
      recv = tokens_message(plan_.micro_batches()[next]);
    }
  }
  groups_.pipeline->exchange(send.first, send.second, (stage + 1) % stages, recv.first, recv.second,
                             (stage + stages - 1) % stages);
  if (recv.second > 0 && !plan_.first_stage()) std::swap(state_.stream, state_.incoming);
  observer.phase_done(Phase::head);
}

void Pipeline::step_done() {
  state_.tokens_on_way = plan_.first_stage() && !plan_.last_stage();
}

void Pipeline::skip_step() {
  // hand_over turns to the other input with each micro-batch that it receives.
  if (!plan_.first_stage() && plan_.micro_batches().size() % 2 != 0) {
    std::swap(state_.stream, state_.incoming);
  }
  step_done();
}

void Pipeline::settle() {
  if (!state_.tokens_on_way) return;
  for (const MicroBatch& m : plan_.micro_batches()) {
    const Message recv = tokens_message(m);
    groups_.pipeline->exchange(nullptr, 0, 0, recv.first, recv.second, plan_.sharding().pp - 1);
  }
  state_.tokens_on_way = false;
}

}  // namespace helix
