#include "kernels/state/stored_weights.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <mutex>

#include "kernels/ops/memory.hpp"
#include "kernels/ops/work_counter.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix {
namespace {

// As floats, twice, small enough for the cache of a core; large enough to be worth a GPU's copy.
constexpr std::int64_t piece_values = std::int64_t{1} << 17;
constexpr std::int64_t piece_rows = 32;
constexpr std::int64_t strip_rows = 8;  // that a thread reads at once

/// Rows of slices that are stacked under each other, in as many threads as the device has.
class Stack {
 public:
  Stack(const WeightSource& source, std::span<const WeightSlice> slices, int threads)
      : source_(source), slices_(slices), threads_(threads) {
    for (const WeightSlice& slice : slices) rows_ += slice.rows;
    cols_ = slices.front().cols;
  }

  /// Calls take(first, rows, values) for one piece after the other; the values are [rows, cols].
  void for_each_piece(
      const std::function<void(std::int64_t, std::int64_t, const std::vector<float>&)>& take) {
    const std::int64_t step = std::max<std::int64_t>(1, piece_values / cols_ / piece_rows) * piece_rows;
    for (std::int64_t first = 0; first < rows_; first += step) {
      const std::int64_t rows = std::min(step, rows_ - first);
      values_.resize(static_cast<std::size_t>(rows * cols_));
      read(first, rows);
      take(first, rows, values_);
      note_work();
    }
  }

 private:
  void read(std::int64_t first, std::int64_t rows) {
    std::exception_ptr problem;
    std::mutex guard;
#pragma omp parallel for num_threads(threads_) schedule(static) if (threads_ > 1)
    for (std::int64_t r = 0; r < rows; r += strip_rows) {
      try {
        read_strip(first + r, std::min(strip_rows, rows - r), values_.data() + r * cols_);
      } catch (...) {
        const std::lock_guard lock(guard);
        problem = std::current_exception();
      }
    }
    if (problem) std::rethrow_exception(problem);
  }
  void read_strip(std::int64_t row, std::int64_t rows, float* out) const {
    for (const WeightSlice& slice : slices_) {
      const std::int64_t here = std::min(rows, slice.rows - row);
      if (here > 0) {
        source_.read(slice, row, here, out);
        out += here * cols_;
        rows -= here;
        row += here;
      }
      if (rows == 0) return;
      row -= slice.rows;
    }
  }

  const WeightSource& source_;
  std::span<const WeightSlice> slices_;
  int threads_;
  std::int64_t rows_ = 0, cols_ = 0;
  std::vector<float> values_;
};

float largest_magnitude(const WeightSource& source, const MatrixPlan& plan, int threads) {
  float largest = 0.0f;
  for (const auto& slices : plan.matrices) {
    Stack(source, slices, threads)
        .for_each_piece([&](std::int64_t, std::int64_t, const std::vector<float>& values) {
          for (const float x : values) largest = std::max(largest, std::fabs(x));
        });
  }
  return largest;
}

}  // namespace

void store_from(const WeightSource& source, const MatrixPlan& plan, PackedWeight& weight, Backend& backend) {
  const int threads = backend.threads();
  if (weight.dtype != DType::bf16)
    weight.scale = power_of_two_scale(largest_magnitude(source, plan, threads), weight.dtype);
  std::unique_ptr<Buffer> staging;
  std::int64_t index = 0;
  for (const auto& slices : plan.matrices) {
    Stack(source, slices, threads)
        .for_each_piece([&](std::int64_t first, std::int64_t rows, const auto& values) {
          const std::size_t bytes = values.size() * sizeof(float);
          auto* const on_device = reinterpret_cast<float*>(ensure(backend, staging, bytes));
          backend.copy_to_device(on_device, values.data(), bytes);
          backend.store_weight(weight, index, first, rows, on_device);
          backend.synchronize();  // the staging memory is used again
        });
    ++index;
  }
}

void copy_from(const WeightSource& source, const WeightSlice& slice, float factor, BF16* out,
               Backend& backend) {
  Stack(source, {&slice, 1}, backend.threads())
      .for_each_piece([&](std::int64_t first, std::int64_t, const std::vector<float>& values) {
        std::vector<BF16> rounded(values.size());
        std::ranges::transform(values, rounded.begin(), [&](float x) { return to_bf16(factor * x); });
        backend.copy_to_device(out + first * slice.cols, rounded.data(), rounded.size() * sizeof(BF16));
      });
}

std::vector<BF16> rounded_to_bf16(const std::vector<float>& values) {
  std::vector<BF16> rounded(values.size());
  std::ranges::transform(values, rounded.begin(), to_bf16);
  return rounded;
}

}  // namespace helix
