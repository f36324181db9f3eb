#include "sweeps/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/reference/reference_model.hpp"
#include "kernels/weight_plan.hpp"
#include "sweeps/broadcast.hpp"

namespace helix {
namespace {

/// A followed request and its reference, on the rank that computes it.
struct Follower {
  std::int64_t request;
  reference::ReferenceRequest reference;
};

/// First and last of the batch and others between them, at most `count`.
std::vector<std::int64_t> followed_requests(std::int64_t batch, std::int64_t count) {
  count = std::min(count, batch);
  std::vector<std::int64_t> requests;
  for (std::int64_t i = 0; i < count; ++i) requests.push_back(count == 1 ? 0 : i * (batch - 1) / (count - 1));
  return requests;
}

struct Difference {
  double rel_error = 0;
  double max_error = 0;
};

// NaN anywhere makes both figures infinite: it must not slip through a comparison.
template <class T>
Difference compare(std::span<const T> values, const reference::Vector& expected) {
  double squares = 0, norm = 0, largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    if constexpr (std::is_same_v<T, BF16>) {
      value = static_cast<double>(to_float(values[i]));
    } else {
      value = static_cast<double>(values[i]);
    }
    const double d = value - expected[i];
    squares += d * d;
    norm += expected[i] * expected[i];
    largest = std::max(largest, std::fabs(d));
  }
  if (!std::isfinite(squares) || !std::isfinite(norm) || norm == 0) return {HUGE_VAL, HUGE_VAL};
  return {std::sqrt(squares / norm), largest};
}

/// Keeps what each block adds to the residual stream in one step.
class BlockRecorder final : public StepObserver {
 public:
  explicit BlockRecorder(const DecodeEngine& engine) : engine_(engine) {}
  void phase_done(Phase phase) override {
    if (phase == Phase::attn_allreduce || phase == Phase::ffn_comm)
      outputs_.push_back(engine_.block_output());
  }
  void clear() { outputs_.clear(); }
  const std::vector<std::vector<BF16>>& outputs() const { return outputs_; }

 private:
  const DecodeEngine& engine_;
  std::vector<std::vector<BF16>> outputs_;
};

std::string block_name(std::size_t block) {
  return fmt::format("{} of layer {}", block % 2 == 0 ? "attention" : "FFN", block / 2);
}

std::string check_token(std::int32_t token, std::span<const float> logits,
                        const reference::ReferenceStep& expected, double max_error) {
  const auto best = static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
  if (token != best) return fmt::format("token {} is not the argmax {} of its logits", token, best);
  if (token != expected.token && expected.top2_gap > 2 * max_error) {
    return fmt::format("token {} instead of {}, which leads by {:.3g}", token, expected.token,
                       expected.top2_gap);
  }
  return {};
}

/// One failure for all ranks: that of the lowest rank that has one.
std::string agree_on_failure(const std::string& mine, MPI_Comm comm) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(comm, &rank));
  HELIX_MPI(MPI_Comm_size(comm, &size));
  int first = mine.empty() ? size : rank;
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm));
  if (first == size) return {};
  return broadcast_text(mine, first, comm);
}

}  // namespace

double verify_tolerance(DType kv_dtype) {
  return kv_dtype == DType::bf16 ? 1e-2 : 3e-2;
}

Verification verify(DecodeEngine& engine, const ModelSpec& model, const DecodeShape& shape,
                    std::uint64_t seed, const VerifyOptions& options, MPI_Comm instance) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  HELIX_MPI(MPI_Comm_size(instance, &size));

  // Each reference runs on one rank, different requests on different ranks.
  std::vector<Follower> followers;
  const reference::ReferenceSetup setup{.model = model,
                                        .seed = seed,
                                        .layers = options.depth,
                                        .context = shape.context,
                                        .weight_dtype = shape.weight_dtype,
                                        .kv_dtype = shape.kv_dtype};
  const std::vector<std::int64_t> requests = followed_requests(shape.batch, options.max_requests);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (static_cast<int>(i) % size == rank) {
      followers.push_back({requests[i], reference::ReferenceRequest(setup, requests[i])});
    }
  }

  engine.rewind();
  BlockRecorder recorder(engine);
  Verification result;
  std::string failure;
  const auto fail = [&](const std::string& what) {
    if (failure.empty()) failure = what;
  };
  for (std::int64_t step = 0; step < options.steps; ++step) {
    const std::vector<std::int32_t> input = engine.tokens();
    recorder.clear();
    engine.step(recorder, options.depth);
    const std::vector<std::int32_t> output = engine.tokens();
    std::vector<std::vector<std::int32_t>> routing;
    for (std::int64_t layer = 0; layer < options.depth; ++layer) routing.push_back(engine.routing(layer));
    const bool compared = step >= options.first_compared_step;
    const std::vector<float> logits = compared ? engine.gather_logits() : std::vector<float>{};

    for (Follower& f : followers) {
      std::vector<std::vector<std::int32_t>> chosen;
      for (const std::vector<std::int32_t>& layer : routing) {
        const auto k = static_cast<std::ptrdiff_t>(layer.size()) / shape.batch;
        chosen.emplace_back(layer.begin() + f.request * k, layer.begin() + (f.request + 1) * k);
      }
      const auto b = static_cast<std::size_t>(f.request);
      const reference::ReferenceStep expected = f.reference.step(input[b], chosen);
      const std::string where = fmt::format("request {}, step {}: ", f.request, step);
      if (!expected.routing_problem.empty()) fail(where + expected.routing_problem);
      if (!compared) continue;
      const double allowed = verify_tolerance(shape.kv_dtype);
      const auto hold = [&](const Difference& difference, const std::string& what) {
        result.rel_error = std::max(result.rel_error, difference.rel_error);
        if (difference.rel_error > allowed) {
          fail(where +
               fmt::format("{}: relative error {:.3g} exceeds {:.3g}", what, difference.rel_error, allowed));
        }
      };
      const auto hidden = static_cast<std::size_t>(model.hidden);
      for (std::size_t block = 0; block < recorder.outputs().size(); ++block) {
        const std::span<const BF16> produced(recorder.outputs()[block].data() + b * hidden, hidden);
        hold(compare(produced, expected.block_outputs[block]), block_name(block));
      }
      const auto vocab = static_cast<std::size_t>(model.vocab);
      const std::span<const float> row(logits.data() + b * vocab, vocab);
      const Difference difference = compare(row, expected.logits);
      result.max_error = std::max(result.max_error, difference.max_error);
      hold(difference, "logits");
      if (const std::string token = check_token(output[b], row, expected, difference.max_error);
          !token.empty()) {
        fail(where + token);
      }
    }
  }
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &result.rel_error, 1, MPI_DOUBLE, MPI_MAX, instance));
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &result.max_error, 1, MPI_DOUBLE, MPI_MAX, instance));
  result.failure = agree_on_failure(failure, instance);
  engine.rewind();
  return result;
}

}  // namespace helix
