// The kernels of the CUDA backend one by one: device time of a call on cold data, bytes per second against a
// device copy measured in the same run, FLOP per second. Needs a GPU; prints a table.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/state/kv_cache.hpp"
#include "roofline/base/statistics.hpp"
#include "sweeps/machine/prober.hpp"

namespace helix {
namespace {

/// Memory that a kernel walks through, so that it finds nothing in the L2 cache.
constexpr std::size_t cold_bytes = std::size_t{1} << 30;

class Table {
 public:
  explicit Table(Backend& backend) : backend_(backend) {
    const std::unique_ptr<Buffer> from = backend.allocate(cold_bytes), to = backend.allocate(cold_bytes);
    cudaEvent_t begin = nullptr, end = nullptr;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    std::vector<double> series;
    for (int i = 0; i < 20; ++i) {
      cudaEventRecord(begin);
      cudaMemcpyAsync(to->data(), from->data(), cold_bytes, cudaMemcpyDeviceToDevice);
      cudaEventRecord(end);
      cudaEventSynchronize(end);
      float ms = 0;
      cudaEventElapsedTime(&ms, begin, end);
      series.push_back(1e3 * static_cast<double>(ms));
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    const double us = median(series);
    copy_bytes_per_s_ = 2.0 * cold_bytes / us * 1e6;
    fmt::print("{:<44} {:>10} {:>8} {:>8} {:>9}\n", "kernel", "us", "TB/s", "of copy", "TFLOP/s");
    print("device copy", us, 2.0 * cold_bytes, 0);
  }

  /// `call(i)` turns to other data each time.
  void row(const std::string& name, double bytes, double flops,
           const std::function<void(std::int64_t)>& call) {
    constexpr std::int64_t calls = 16;
    for (std::int64_t i = 0; i < calls; ++i) call(i);
    backend_.synchronize();
    TimedOps timed(backend_, [&] {
      for (std::int64_t i = 0; i < calls; ++i) call(i);
    });
    std::vector<double> series;
    for (int i = 0; i < 15; ++i) series.push_back(timed.run_us() / calls);
    print(name, median(series), bytes, flops);
  }

 private:
  void print(const std::string& name, double us, double bytes, double flops) const {
    fmt::print("{:<44} {:>10.2f} {:>8.3f} {:>7.1f}% {:>9.1f}\n", name, us, bytes / us * 1e-6,
               100 * bytes / us * 1e6 / copy_bytes_per_s_, flops / us * 1e-6);
  }

  Backend& backend_;
  double copy_bytes_per_s_ = 0;
};

std::unique_ptr<Buffer> filled(Backend& backend, std::int64_t values) {
  auto buffer = backend.allocate(static_cast<std::size_t>(values) * sizeof(BF16));
  backend.fill_matrix(reinterpret_cast<BF16*>(buffer->data()), {.key = 3, .rows = 1, .cols = values});
  return buffer;
}

BF16* bf16(const std::unique_ptr<Buffer>& buffer) {
  return reinterpret_cast<BF16*>(buffer->data());
}

void attention(Backend& backend, Table& table, const KvShape& shape, std::int64_t q_heads, std::int64_t batch,
               std::int64_t tokens) {
  const bool mla = shape.kind == AttentionKind::mla;
  const double bytes = static_cast<double>(batch * tokens) * shape.bytes_per_token();
  const auto layers = std::max<std::int64_t>(1, static_cast<std::int64_t>(cold_bytes / bytes));
  std::unique_ptr<Buffer> memory;
  CacheRoom room{.shape = shape,
                 .layers = std::vector<std::int64_t>(static_cast<std::size_t>(layers)),
                 .requests = batch,
                 .history = {0, tokens},
                 .growth = shape.tokens_per_page};
  std::iota(room.layers.begin(), room.layers.end(), 0);
  KvCache cache = KvCache::make(backend, {&room, 1}, memory).front();
  cache.fill_history({.seed = 1, .requests = {{0, batch}}, .global_kv_heads = shape.kv_heads});
  const auto q = filled(backend, batch * q_heads * shape.head_dim),
             o = filled(backend, batch * q_heads * shape.v_dim);
  const auto lse = backend.allocate(static_cast<std::size_t>(batch * q_heads) * sizeof(float));
  const auto scratch =
      backend.allocate(std::max<std::size_t>(64, backend.attention_scratch_bytes(shape, batch, q_heads)));
  table.row(fmt::format("{} {} heads, {} KV, {} x {}K tokens, {}", mla ? "MLA" : "GQA", q_heads,
                        shape.kv_heads, batch, tokens / 1024, name(shape.dtype)),
            bytes, 2.0 * static_cast<double>(batch * tokens * q_heads * (shape.head_dim + shape.v_dim)),
            [&](std::int64_t i) {
              backend.attention(cache.layer(i % layers), batch, q_heads, 0.1f, bf16(q), bf16(o),
                                reinterpret_cast<float*>(lse->data()), {scratch->data(), scratch->bytes()});
            });
}

/// Synthetic matrices, as many as make the memory cold.
struct ColdWeights {
  PackedWeight packed;
  std::unique_ptr<Buffer> memory;

  ColdWeights(Backend& backend, std::int64_t n, std::int64_t k, DType dtype, std::int64_t count = 0) {
    packed = {.n = n, .k = k, .stride_bytes = backend.packed_bytes(n, k, dtype), .dtype = dtype};
    packed.count = count > 0 ? count : static_cast<std::int64_t>(cold_bytes / packed.stride_bytes);
    memory = backend.allocate(packed.stride_bytes * static_cast<std::size_t>(packed.count));
    packed.data = memory->data();
    for (std::int64_t i = 0; i < packed.count; ++i) {
      const WeightSlice slice{.key = static_cast<std::uint64_t>(i), .rows = n, .cols = k};
      backend.fill_weight(packed, i, {&slice, 1});
    }
  }
};

void linear(Backend& backend, Table& table, DType dtype, std::int64_t m, std::int64_t n, std::int64_t k) {
  const ColdWeights weights(backend, n, k, dtype);
  const auto x = filled(backend, m * k), y = filled(backend, m * n);
  table.row(fmt::format("linear {} x [{}, {}], {}", m, n, k, name(dtype)),
            bytes_per_value(dtype) * static_cast<double>(n * k), 2.0 * static_cast<double>(m * n * k),
            [&](std::int64_t i) {
              PackedWeight w = weights.packed;
              w.data += static_cast<std::size_t>(i % w.count) * w.stride_bytes;
              w.count = 1;
              backend.linear(m, bf16(x), k, w, bf16(y), n);
            });
}

/// Tokens and calls take turns at the experts.
void experts(Backend& backend, Table& table, DType dtype, std::int64_t batch, std::int64_t top_k,
             std::int64_t count, std::int64_t hidden, std::int64_t ffn) {
  const ColdWeights gate_up(backend, 2 * ffn, hidden, dtype, count), down(backend, hidden, ffn, dtype, count);
  constexpr std::int64_t turns = 16;
  std::vector<std::int32_t> chosen;
  for (std::int64_t i = 0; i < turns * batch * top_k; ++i)
    chosen.push_back(static_cast<std::int32_t>(i % count));
  const std::vector<float> equal(static_cast<std::size_t>(batch * top_k), 1.0f / static_cast<float>(top_k));
  const auto ids = backend.allocate(chosen.size() * sizeof(std::int32_t));
  const auto weights = backend.allocate(equal.size() * sizeof(float));
  backend.copy_to_device(ids->data(), chosen.data(), ids->bytes());
  backend.copy_to_device(weights->data(), equal.data(), weights->bytes());
  const auto x = filled(backend, batch * hidden), y = filled(backend, batch * hidden);
  const auto scratch = backend.allocate(backend.moe_scratch_bytes(batch, top_k, hidden, ffn, count));
  const auto active = static_cast<double>(std::min(count, batch * top_k));
  const double values = 3.0 * static_cast<double>(hidden * ffn);
  table.row(fmt::format("experts {} x {} of {}, [{}, {}], {}", batch, top_k, count, hidden, ffn, name(dtype)),
            bytes_per_value(dtype) * active * values, 2 * values * static_cast<double>(batch * top_k),
            [&](std::int64_t i) {
              const ExpertChoice choice{
                  reinterpret_cast<const std::int32_t*>(ids->data()) + i % turns * batch * top_k,
                  reinterpret_cast<const float*>(weights->data()), top_k};
              backend.moe_experts(batch, bf16(x), choice, {0, gate_up.packed, down.packed}, nullptr, bf16(y),
                                  {scratch->data(), scratch->bytes()});
            });
}

void norm(Backend& backend, Table& table, std::int64_t rows, std::int64_t cols) {
  const auto delta = filled(backend, rows * cols), gain = filled(backend, cols),
             out = filled(backend, rows * cols);
  const auto residual = backend.allocate(static_cast<std::size_t>(rows * cols) * sizeof(float));
  table.row(fmt::format("residual + RMSNorm {} x {} (in L2)", rows, cols),
            12.0 * static_cast<double>(rows * cols), 0, [&](std::int64_t) {
              backend.add_rms_norm(rows, cols, bf16(delta), true, reinterpret_cast<float*>(residual->data()),
                                   bf16(gain), 1e-5f, bf16(out));
            });
}

int run() {
  const cuda::GpuChoice choice = cuda::choose_gpu(0, 1);
  if (!choice.ok()) {
    fmt::print(stderr, "helix-gpubench: {}\n", choice.problem);
    return 2;
  }
  const std::unique_ptr<Backend> backend = make_cuda_backend(choice.gpu);
  fmt::print("{}\n", backend->device_name());
  Table table(*backend);
  for (const DType dtype : backend->kv_dtypes()) {
    const KvShape gqa{.kv_heads = 8, .head_dim = 128, .v_dim = 128, .dtype = dtype};
    const KvShape mla{.kind = AttentionKind::mla, .head_dim = 576, .v_dim = 512, .dtype = dtype};
    for (const std::int64_t batch : {1, 8}) {
      attention(*backend, table, gqa, 64, batch, 64 * 1024);
      attention(*backend, table, mla, 128, batch, 64 * 1024);
    }
  }
  for (const DType dtype : backend->weight_dtypes()) {
    for (const std::int64_t m : {1, 8, 32, 64, 128}) linear(*backend, table, dtype, m, 16384, 4096);
    for (const std::int64_t batch : {1, 8, 64}) experts(*backend, table, dtype, batch, 8, 64, 4096, 1536);
  }
  for (const std::int64_t rows : {1, 64}) norm(*backend, table, rows, 8192);
  fmt::print("{:<44} {:>47.1f}\n", "matrix peak, bf16",
             backend->matrix_peak_flops_per_s(DType::bf16, 0.5) * 1e-12);
  return 0;
}

}  // namespace
}  // namespace helix

int main() {
  try {
    return helix::run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "helix-gpubench: {}\n", error.what());
    return 3;
  }
}
