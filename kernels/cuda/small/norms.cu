// RMSNorm (B. Zhang, R. Sennrich 2019): y_i = x_i / sqrt(mean_j(x_j^2) + eps) * gain_i. Sums and products in
// fp32, one rounding to bf16 at the end. A block takes a row; each thread comes back to the values that it
// wrote itself. Of vectors that are spread over ranks each takes the sum of its part's squares, and the norm from
// all of them. LayerNorm: y_i = (x_i - mean) / sqrt(variance + eps) * gain_i + bias_i, in the same way.
#include "kernels/cuda/device/block_reduce.cuh"
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/row_math.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kRowThreads = 512;
constexpr int kHeadThreads = 128;

template <int V>
struct Floats {
  float v[V];
};

// V floats as vectors of at most 16 bytes.
template <int V>
HELIX_DEVICE Floats<V> load_floats(Global<const float> p, std::int64_t i) {
  constexpr int width = V < 4 ? V : 4;
  Floats<V> x;
  HELIX_UNROLL
  for (int part = 0; part < V / width; ++part) {
    const Vec<float, width> four = (p + i + part * width).template as<const Vec<float, width>>()[0];
    HELIX_UNROLL
    for (int j = 0; j < width; ++j) x.v[part * width + j] = four[j];
  }
  return x;
}

template <int V>
HELIX_DEVICE void store_floats(Global<float> p, std::int64_t i, const Floats<V>& x) {
  constexpr int width = V < 4 ? V : 4;
  HELIX_UNROLL
  for (int part = 0; part < V / width; ++part) {
    Vec<float, width> four;
    HELIX_UNROLL
    for (int j = 0; j < width; ++j) four[j] = x.v[part * width + j];
    (p + i + part * width).template as<Vec<float, width>>()[0] = four;
  }
}

/// What add_rms_norm and add_layer_norm work on: a block's row of each.
struct ResidualRow {
  std::int64_t cols, at;  // of its first value
  bool add, replace;
  Global<const BF16> delta;
  Global<float> residual;
};

// residual (+)= delta; the sum over this thread's values of what `each` makes of them.
template <int V, class Each>
HELIX_DEVICE float add_delta(const ResidualRow& row, const Each& each) {
  float sum = 0.0f;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * V; i < row.cols; i += kRowThreads * V) {
    Floats<V> x = {};
    if (!row.replace) x = load_floats<V>(row.residual, row.at + i);
    if (row.add) {
      const Vec<BF16, V> d = load<V>(row.delta, row.at + i);
      HELIX_UNROLL
      for (int j = 0; j < V; ++j) x.v[j] += to_float(d[j]);
      store_floats<V>(row.residual, row.at + i, x);
    }
    HELIX_UNROLL
    for (int j = 0; j < V; ++j) sum += each(x.v[j]);
  }
  return sum;
}

// out = (residual - mean) * scale * gain
template <int V>
HELIX_DEVICE void scale_residual(const ResidualRow& row, float mean, float scale, Global<const BF16> gain,
                                 Global<BF16> out) {
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * V; i < row.cols; i += kRowThreads * V) {
    const Floats<V> x = load_floats<V>(row.residual, row.at + i);
    const Vec<BF16, V> g = load<V>(gain, i);
    Vec<BF16, V> y;
    HELIX_UNROLL
    for (int j = 0; j < V; ++j) y[j] = to_bf16((x.v[j] - mean) * scale * to_float(g[j]));
    store<V>(out, row.at + i, y);
  }
}

template <int V>
HELIX_KERNEL HELIX_BOUNDS(kRowThreads,
                          1) void add_rms_norm_kernel(std::int64_t cols, bool add, bool replace,
                                                      Global<const BF16> delta, Global<float> residual,
                                                      Global<const BF16> gain, float eps, Global<BF16> out) {
  const ResidualRow row{cols, static_cast<std::int64_t>(blockIdx.x) * cols, add, replace, delta, residual};
  const float squares = add_delta<V>(row, [](float x) { return x * x; });
  scale_residual<V>(row, 0.0f, inverse_rms(block_sum(squares), cols, eps), gain, out);
}

template <int V>
HELIX_KERNEL HELIX_BOUNDS(kRowThreads, 1) void add_layer_norm_kernel(std::int64_t cols, bool add,
                                                                     bool replace, Global<const BF16> delta,
                                                                     Global<float> residual,
                                                                     Global<const BF16> gain, float eps,
                                                                     Global<BF16> out) {
  const ResidualRow row{cols, static_cast<std::int64_t>(blockIdx.x) * cols, add, replace, delta, residual};
  const float mean = block_sum(add_delta<V>(row, [](float x) { return x; })) / static_cast<float>(cols);
  float squares = 0.0f;
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * V; i < cols; i += kRowThreads * V) {
    const Floats<V> x = load_floats<V>(residual, row.at + i);
    HELIX_UNROLL
    for (int j = 0; j < V; ++j) squares += (x.v[j] - mean) * (x.v[j] - mean);
  }
  scale_residual<V>(row, mean, inverse_rms(block_sum(squares), cols, eps), gain, out);
}

HELIX_DEVICE float squares_of_thread(std::int64_t cols, Global<const BF16> x) {
  float squares = 0.0f;
  for (std::int64_t i = threadIdx.x; i < cols; i += kHeadThreads) {
    const BF16 value = x[i];
    squares += to_float(value) * to_float(value);
  }
  return squares;
}

HELIX_DEVICE void scale_row(std::int64_t cols, float scale, Global<const BF16> gain, Global<BF16> x) {
  for (std::int64_t i = threadIdx.x; i < cols; i += kHeadThreads) {
    const BF16 value = x[i], g = gain[i];
    x[i] = to_bf16(to_float(value) * scale * to_float(g));
  }
}

HELIX_KERNEL HELIX_BOUNDS(kHeadThreads,
                          4) void rms_norm_heads_kernel(std::int64_t cols, std::int64_t row_stride,
                                                        std::int64_t head_stride, Global<const BF16> gain,
                                                        float eps, Global<BF16> x) {
  const Global<BF16> head = x + (blockIdx.y * row_stride + blockIdx.x * head_stride);
  scale_row(cols, inverse_rms(block_sum(squares_of_thread(cols, head)), cols, eps), gain, head);
}

HELIX_KERNEL HELIX_BOUNDS(kHeadThreads, 4) void square_sums_kernel(std::int64_t cols, Global<const BF16> x,
                                                                   std::int64_t ldx, Global<float> sums) {
  const std::int64_t b = blockIdx.x;
  const float squares = block_sum(squares_of_thread(cols, x + b * ldx));
  if (threadIdx.x == 0) sums[b] = squares;
}

HELIX_KERNEL HELIX_BOUNDS(kHeadThreads,
                          4) void rms_norm_part_kernel(std::int64_t cols, Global<const BF16> gain, float eps,
                                                       Global<const float> sums, std::int64_t parts,
                                                       std::int64_t stride, std::int64_t values,
                                                       Global<BF16> x, std::int64_t ldx) {
  const std::int64_t b = blockIdx.x;
  float squares = 0.0f;
  for (std::int64_t p = 0; p < parts; ++p) {
    const float of_part = sums[p * stride + b];
    squares += of_part;
  }
  scale_row(cols, inverse_rms(squares, values, eps), gain, x + b * ldx);
}

HELIX_KERNEL HELIX_BOUNDS(kHeadThreads,
                          4) void layer_norm_heads_kernel(std::int64_t cols, std::int64_t row_stride,
                                                          std::int64_t head_stride, Global<const BF16> gains,
                                                          bool biased, Global<const BF16> biases, float eps,
                                                          Global<BF16> x) {
  const Global<BF16> row = x + (blockIdx.y * row_stride + blockIdx.x * head_stride);
  const std::int64_t of_head = blockIdx.x * cols;
  const auto at = [](const Global<const BF16>& values, std::int64_t i) {
    const BF16 value = values[i];
    return to_float(value);
  };
  float sum = 0.0f, squares = 0.0f;
  for (std::int64_t i = threadIdx.x; i < cols; i += kHeadThreads) sum += at(row, i);
  const float mean = block_sum(sum) / static_cast<float>(cols);
  for (std::int64_t i = threadIdx.x; i < cols; i += kHeadThreads)
    squares += (at(row, i) - mean) * (at(row, i) - mean);
  const float scale = inverse_rms(block_sum(squares), cols, eps);
  for (std::int64_t i = threadIdx.x; i < cols; i += kHeadThreads)
    row[i] = to_bf16((at(row, i) - mean) * scale * at(gains, of_head + i) +
                     (biased ? at(biases, of_head + i) : 0.0f));
}

constexpr std::size_t sum_bytes(int threads) {
  return static_cast<std::size_t>(threads / kWarp) * sizeof(float);
}

template <typename Kernel>
void launch_add_norm(Kernel vectors, Kernel values, Stream stream, std::int64_t rows, std::int64_t cols,
                     const BF16* delta, bool replace, float* residual, const BF16* gain, float eps,
                     BF16* out) {
  launch(vectorizable({delta, residual, gain, out}, {cols}) ? vectors : values,
         Dim3(static_cast<unsigned>(rows)), Dim3(kRowThreads), sum_bytes(kRowThreads), stream, cols,
         delta != nullptr, replace, delta, residual, gain, eps, out);
}

}  // namespace

void add_rms_norm(Stream stream, std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                  float* residual, const BF16* gain, float eps, BF16* out) {
  launch_add_norm(add_rms_norm_kernel<kVector>, add_rms_norm_kernel<1>, stream, rows, cols, delta, replace,
                  residual, gain, eps, out);
}

void add_layer_norm(Stream stream, std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace,
                    float* residual, const BF16* gain, float eps, BF16* out) {
  launch_add_norm(add_layer_norm_kernel<kVector>, add_layer_norm_kernel<1>, stream, rows, cols, delta,
                  replace, residual, gain, eps, out);
}

void rms_norm_heads(Stream stream, std::int64_t batch, std::int64_t heads, std::int64_t cols,
                    const BF16* gain, float eps, HeadRows<BF16> x) {
  launch(rms_norm_heads_kernel, Dim3(static_cast<unsigned>(heads), static_cast<unsigned>(batch)),
         Dim3(kHeadThreads), sum_bytes(kHeadThreads), stream, cols, x.row_stride, x.head_stride, gain, eps,
         x.data);
}

void square_sums(Stream stream, std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx,
                 float* sums) {
  launch(square_sums_kernel, Dim3(static_cast<unsigned>(batch)), Dim3(kHeadThreads), sum_bytes(kHeadThreads),
         stream, cols, x, ldx, sums);
}

void rms_norm_part(Stream stream, std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                   const SquareSums& whole, BF16* x, std::int64_t ldx) {
  launch(rms_norm_part_kernel, Dim3(static_cast<unsigned>(batch)), Dim3(kHeadThreads), 0, stream, cols, gain,
         eps, whole.sums, whole.parts, whole.stride, whole.values, x, ldx);
}

void layer_norm_heads(Stream stream, std::int64_t batch, std::int64_t heads, std::int64_t cols,
                      const BF16* gain, const BF16* bias, float eps, HeadRows<BF16> x) {
  launch(layer_norm_heads_kernel, Dim3(static_cast<unsigned>(heads), static_cast<unsigned>(batch)),
         Dim3(kHeadThreads), sum_bytes(kHeadThreads), stream, cols, x.row_stride, x.head_stride, gain,
         bias != nullptr, bias, eps, x.data);
}

}  // namespace helix::cuda
