// Skinny matrix products with cold weights at the shapes of Llama-3.2-1B and DeepSeek-V2-Lite, and oneDNN's
// on the same shapes. Arguments: n, k, tokens, threads.
#include <omp.h>

#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "bench/micro/cold_samples.hpp"
#include "kernels/cpu/linear/linear.hpp"

namespace helix {
namespace {

struct Shape {
  std::int64_t n, k, m;
  int threads;

  explicit Shape(const benchmark::State& state)
      : n(state.range(0)), k(state.range(1)), m(state.range(2)), threads(static_cast<int>(state.range(3))) {
    static std::once_flag weights_written;
    std::call_once(weights_written, write_ordinary_numbers);
  }
  double flops() const { return 2.0 * static_cast<double>(m * n * k); }
  std::vector<BF16> activations() const {
    return std::vector<BF16>(static_cast<std::size_t>(m * k), to_bf16(0.5f));
  }
  std::vector<BF16> results() const { return std::vector<BF16>(static_cast<std::size_t>(m * n)); }
};

template <DType dtype>
void linear(benchmark::State& state) {
  const Shape shape(state);
  const auto x = shape.activations();
  auto y = shape.results();
  const std::size_t bytes = cpu::packed_bytes(shape.n, shape.k, dtype);
  ColdStretches weights(bytes);
  state.SetLabel(cpu::linear_kernel_path());
  sample_against_roofline(state, static_cast<double>(bytes), shape.flops(), shape.threads, [&] {
    cpu::linear(shape.m, x.data(), shape.k, {weights.next(), shape.n, shape.k, 1, bytes, dtype}, y.data(),
                shape.n, shape.threads);
  });
}

// The alternative: oneDNN with weights in the layout that it chooses.
void linear_onednn(benchmark::State& state) {
  using namespace dnnl;
  const Shape shape(state);
  auto x = shape.activations();
  auto y = shape.results();
  omp_set_num_threads(shape.threads);
  const engine cpu(engine::kind::cpu, 0);
  stream queue(cpu);
  const auto desc = [](memory::dim rows, memory::dim cols, memory::format_tag tag) {
    return memory::desc({rows, cols}, memory::data_type::bf16, tag);
  };
  const auto x_desc = desc(shape.m, shape.k, memory::format_tag::ab);
  const auto y_desc = desc(shape.m, shape.n, memory::format_tag::ab);
  const auto weights_desc = desc(shape.k, shape.n, memory::format_tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const matmul::primitive_desc plan(cpu, x_desc, weights_desc, y_desc);
#else
  const matmul::primitive_desc plan(matmul::desc(x_desc, weights_desc, y_desc), cpu);
#endif
  const matmul product(plan);
  memory weights(plan.weights_desc(), cpu, nullptr);
  const std::unordered_map<int, memory> operands{{DNNL_ARG_SRC, memory(x_desc, cpu, x.data())},
                                                 {DNNL_ARG_WEIGHTS, weights},
                                                 {DNNL_ARG_DST, memory(y_desc, cpu, y.data())}};
  ColdStretches stretches(plan.weights_desc().get_size());
  sample_against_roofline(state, 2.0 * static_cast<double>(shape.n * shape.k), shape.flops(), shape.threads,
                          [&] {
                            weights.set_data_handle(stretches.next());
                            product.execute(queue, operands);
                            queue.wait();
                          });
}

void shapes(benchmark::internal::Benchmark* b) {
  struct Matrix {
    std::int64_t n, k;
  };
  for (const auto [n, k] : {Matrix{3072, 2048},
                            {2048, 2048},
                            {16384, 2048},
                            {2048, 8192},
                            {128256, 2048},  // Llama
                            {576, 2048},
                            {2816, 2048},
                            {2048, 1408}})  // DeepSeek
    for (const std::int64_t m : {1, 2, 4, 8, 16, 64})
      for (const std::int64_t threads : {1, 2}) b->Args({n, k, m, threads});
  b->ArgNames({"n", "k", "m", "threads"})->UseManualTime()->MinTime(0.2);
}
BENCHMARK(linear<DType::bf16>)->Name("linear/bf16")->Apply(shapes);
BENCHMARK(linear<DType::fp8>)->Name("linear/fp8")->Apply(shapes);
BENCHMARK(linear_onednn)->Name("linear/onednn_bf16")->Apply(shapes);

}  // namespace
}  // namespace helix
