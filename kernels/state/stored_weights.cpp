#include "kernels/state/stored_weights.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "kernels/ops/rounding.hpp"
#include "kernels/ops/work_counter.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix {
namespace {

// What a thread reads at once stays in its core's cache until it is laid out. What lies as it is to be need not.
constexpr std::int64_t piece_values = std::int64_t{1} << 17, piece_values_in_place = std::int64_t{1} << 22;
constexpr std::int64_t pieces_a_guess = 16;  // of so many of a thread's, one is looked at for a scale
constexpr std::int64_t strip_rows = 32;      // that a backend lays out at once

/// Rows of slices that are stacked under each other.
class Stack {
 public:
  explicit Stack(std::span<const WeightSlice> slices) : slices_(slices) {
    for (const WeightSlice& slice : slices) rows_ += slice.rows;
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return slices_.front().cols; }

  /// Calls part(slice, first, count) for what rows [row, row + rows) are of each slice, in order.
  template <class Part>
  void for_each_part(std::int64_t row, std::int64_t rows, const Part& part) const {
    for (const WeightSlice& slice : slices_) {
      const std::int64_t here = std::min(rows, slice.rows - row);
      if (here > 0) {
        part(slice, row, here);
        rows -= here;
        row += here;
      }
      if (rows == 0) return;
      row -= slice.rows;
    }
  }

 private:
  std::span<const WeightSlice> slices_;
  std::int64_t rows_ = 0;
};

/// piece(first, rows, memory) for pieces of whole strips, in threads each of which has a stretch of them and a memory.
template <class Memory, class Piece>
void in_pieces(std::int64_t rows, std::int64_t cols, std::int64_t most_values, int threads,
               const Piece& piece) {
  const auto strips = [](std::int64_t count) { return (count + strip_rows - 1) / strip_rows; };
  const std::int64_t most = std::max<std::int64_t>(1, most_values / (strip_rows * cols)),
                     step = strip_rows * std::min(most, strips((rows + threads - 1) / threads));
  std::exception_ptr problem;
  std::mutex guard;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Memory memory;
#pragma omp for schedule(static)
    for (std::int64_t first = 0; first < rows; first += step) {
      try {
        piece(first, std::min(step, rows - first), memory);
        note_work();
      } catch (...) {
        const std::lock_guard lock(guard);
        problem = std::current_exception();
      }
    }
  }
  if (problem) std::rethrow_exception(problem);
}

void read_part(const WeightSource& source, const WeightSlice& slice, std::int64_t first, std::int64_t rows,
               float, float* out) {
  source.read(slice, first, rows, out);
}
template <class T>
void read_part(const WeightSource& source, const WeightSlice& slice, std::int64_t first, std::int64_t rows,
               float factor, T* out) {
  source.read_rounded(slice, first, rows, factor, out);
}

/// take(first, rows, values) for those pieces of the stack of which wanted(first, rows), from several threads at once; the
/// values are [rows, cols], but for floats times `factor`.
template <class T, class Wanted, class Take>
void for_each_piece(const WeightSource& source, const Stack& stack, float factor, int threads,
                    const Wanted& wanted, const Take& take) {
  const std::int64_t cols = stack.cols();
  in_pieces<std::vector<T>>(
      stack.rows(), cols, piece_values, threads,
      [&](std::int64_t first, std::int64_t rows, std::vector<T>& values) {
        if (!wanted(first, rows)) return;
        values.resize(static_cast<std::size_t>(rows * cols));
        T* out = values.data();
        stack.for_each_part(first, rows, [&](const WeightSlice& slice, std::int64_t from, std::int64_t here) {
          read_part(source, slice, from, here, factor, out);
          out += here * cols;
        });
        take(first, rows, static_cast<const void*>(values.data()));
      });
}

bool all_of_them(std::int64_t, std::int64_t) {
  return true;
}

/// The same where all of it lies in bf16 as it is to be, and slices end with strips; false: it does not.
template <class Take>
bool for_each_piece_in_place(const WeightSource& source, std::span<const WeightSlice> slices, int threads,
                             const Take& take) {
  for (const WeightSlice& slice : slices) {
    const bool last = &slice == &slices.back();
    if (source.rows_in_bf16(slice, 0) == nullptr || (slice.rows % strip_rows != 0 && !last)) return false;
  }
  struct None {};
  std::int64_t row = 0;
  for (const WeightSlice& slice : slices) {
    in_pieces<None>(slice.rows, slice.cols, piece_values_in_place, threads,
                    [&](std::int64_t first, std::int64_t rows, None&) {
                      take(row + first, rows, static_cast<const void*>(source.rows_in_bf16(slice, first)));
                    });
    row += slice.rows;
  }
  return true;
}

/// The largest magnitude that threads have met.
class Largest {
 public:
  explicit Largest(float known) : value_(known) {}
  float value() const { return value_; }
  /// Looks at some rows.
  void raise(const WeightSource& source, const Stack& stack, std::int64_t first, std::int64_t rows) {
    float known = value_, largest = known;
    stack.for_each_part(first, rows, [&](const WeightSlice& slice, std::int64_t from, std::int64_t here) {
      largest = source.largest(slice, from, here, largest);
    });
    while (largest > known && !value_.compare_exchange_weak(known, largest)) {
    }
  }

 private:
  std::atomic<float> value_;
};

/// Of some pieces of each matrix.
float largest_of_some(const WeightSource& source, const MatrixPlan& plan, int threads) {
  struct Seen {
    std::int64_t pieces = 0;
  };
  Largest largest(0.0f);
  for (const auto& slices : plan.matrices) {
    const Stack stack(slices);
    in_pieces<Seen>(stack.rows(), stack.cols(), piece_values, threads,
                    [&](std::int64_t first, std::int64_t rows, Seen& seen) {
                      if (seen.pieces++ % pieces_a_guess == 0) largest.raise(source, stack, first, rows);
                    });
  }
  return largest.value();
}

template <class T, class Wanted>
void store_pieces(const WeightSource& source, const Stack& stack, const PackedWeight& weight,
                  std::int64_t index, Backend& backend, const Wanted& wanted) {
  for_each_piece<T>(source, stack, 1.0f / weight.scale, backend.threads(), wanted,
                    [&](std::int64_t first, std::int64_t rows, const void* values) {
                      backend.store_weight(weight, index, first, rows, values);
                    });
}

void store_as_bf16(const WeightSource& source, const MatrixPlan& plan, const PackedWeight& weight,
                   Backend& backend) {
  std::int64_t index = 0;
  for (const auto& slices : plan.matrices) {
    const auto take = [&](std::int64_t first, std::int64_t rows, const void* values) {
      backend.store_weight(weight, index, first, rows, values);
    };
    if (!for_each_piece_in_place(source, slices, backend.threads(), take))
      store_pieces<BF16>(source, Stack(slices), weight, index, backend, all_of_them);
    ++index;
  }
}

/// The scale is known once all is read. To read it once, some of it is looked at; if a piece has a value that asks for
/// another scale, those behind it are only looked at, and all begins again. A piece is looked at right before it is
/// stored, and is in the core's cache then.
template <class T>
void store_at_scale(const WeightSource& source, const MatrixPlan& plan, PackedWeight& weight,
                    Backend& backend) {
  const float guess = largest_of_some(source, plan, backend.threads());
  weight.scale = power_of_two_scale(guess, weight.dtype);
  Largest largest(guess);
  const auto fits = [&] { return power_of_two_scale(largest.value(), weight.dtype) == weight.scale; };
  std::int64_t index = 0;
  for (const auto& slices : plan.matrices) {
    const Stack stack(slices);
    store_pieces<T>(source, stack, weight, index++, backend, [&](std::int64_t first, std::int64_t rows) {
      largest.raise(source, stack, first, rows);
      return fits();
    });
  }
  if (fits()) return;
  weight.scale = power_of_two_scale(largest.value(), weight.dtype);
  index = 0;
  for (const auto& slices : plan.matrices)
    store_pieces<T>(source, Stack(slices), weight, index++, backend, all_of_them);
}

}  // namespace

void store_from(const WeightSource& source, const MatrixPlan& plan, PackedWeight& weight, Backend& backend) {
  if (weight.dtype == DType::bf16) return store_as_bf16(source, plan, weight, backend);
  if (weight.dtype == DType::fp8) return store_at_scale<FP8>(source, plan, weight, backend);
  store_at_scale<float>(source, plan, weight, backend);
}

void copy_from(const WeightSource& source, const WeightSlice& slice, float factor, BF16* out,
               Backend& backend) {
  const auto take = [&](std::int64_t first, std::int64_t rows, const void* values) {
    const std::int64_t count = rows * slice.cols;
    backend.copy_to_device(out + first * slice.cols, values, static_cast<std::size_t>(count) * sizeof(BF16));
  };
  const std::span<const WeightSlice> one(&slice, 1);
  if (factor == 1.0f && for_each_piece_in_place(source, one, backend.threads(), take)) return;
  for_each_piece<BF16>(source, Stack(one), factor, backend.threads(), all_of_them, take);
}

std::vector<BF16> rounded_to_bf16(const std::vector<float>& values) {
  std::vector<BF16> rounded(values.size());
  round_values(values.data(), std::ssize(values), 1.0f, rounded.data());
  return rounded;
}

std::vector<BF16> stored_gain(const WeightSource& source, const ModelSpec& model, const TensorId& id) {
  std::vector<float> gain = source.vector(id);
  if (model.gains_less_one)
    for (float& x : gain) x += 1.0f;
  return rounded_to_bf16(gain);
}

}  // namespace helix
