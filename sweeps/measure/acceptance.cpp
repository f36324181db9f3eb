#include "sweeps/measure/acceptance.hpp"

#include <cmath>

#include "roofline/base/arithmetic.hpp"

namespace helix {

std::int64_t accepted_tokens(double acceptance, std::int64_t query_tokens, std::int64_t step) {
  if (acceptance == 0) return 1 + step % query_tokens;
  const auto until = [&](std::int64_t steps) {
    return static_cast<std::int64_t>(std::floor(real(steps) * acceptance));
  };
  return until(step + 1) - until(step);
}

std::vector<std::int64_t> accepted_of_batch(double acceptance, const DecodeShape& shape, std::int64_t step) {
  std::vector<std::int64_t> accepted;
  for (std::int64_t request = 0; request < shape.batch; ++request)
    accepted.push_back(accepted_tokens(acceptance, shape.query_tokens(), step + request));
  return accepted;
}

std::vector<std::int32_t> next_input(std::span<const std::int32_t> chosen,
                                     std::span<const std::int64_t> accepted, std::int64_t query_tokens) {
  std::vector<std::int32_t> input;
  for (std::int64_t row = 0; row < std::ssize(chosen); ++row) {
    const std::int64_t request = row / query_tokens, first = request * query_tokens;
    const std::int64_t from = accepted[static_cast<std::size_t>(request)] - 1 + row - first;
    input.push_back(chosen[static_cast<std::size_t>(first + from % query_tokens)]);
  }
  return input;
}

}  // namespace helix
