#include "kernels/ops/weight_source.hpp"

#include "kernels/ops/rounding.hpp"

namespace helix {

std::vector<float> WeightSource::floats(const WeightSlice& slice, std::int64_t first,
                                        std::int64_t rows) const {
  std::vector<float> values(static_cast<std::size_t>(rows * slice.cols));
  read(slice, first, rows, values.data());
  return values;
}

void WeightSource::read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                                BF16* out) const {
  const std::vector<float> values = floats(slice, first, rows);
  round_values(values.data(), std::ssize(values), factor, out);
}

void WeightSource::read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                                FP8* out) const {
  const std::vector<float> values = floats(slice, first, rows);
  round_values(values.data(), std::ssize(values), factor, out);
}

const std::byte* WeightSource::rows_in_bf16(const WeightSlice&, std::int64_t) const {
  return nullptr;
}

float WeightSource::largest(const WeightSlice& slice, std::int64_t first, std::int64_t rows,
                            float known) const {
  const std::vector<float> values = floats(slice, first, rows);
  return std::max(known, largest_magnitude(values.data(), std::ssize(values)));
}

}  // namespace helix
