// The CPU backend: memory from the operating system, and the ops of this folder. Everything runs on the
// calling thread and its OpenMP team, so there is nothing to wait for.
#include <sys/mman.h>

#include <cstring>
#include <new>

#include "kernels/comm/mpi_communicator.hpp"
#include "kernels/cpu/attention/attention.hpp"
#include "kernels/cpu/attention/sparse.hpp"
#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/moe.hpp"
#include "kernels/cpu/machine/host.hpp"
#include "kernels/cpu/machine/stream.hpp"
#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/backend.hpp"
#include "kernels/ops/ops.hpp"
#include "kernels/ops/out_of_memory.hpp"

namespace helix {
namespace {

/// Anonymous pages: nothing is touched before use, and 2 MiB pages save the page walks of the
/// long weight reads.
class CpuBuffer : public Buffer {
 public:
  explicit CpuBuffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw OutOfMemory(bytes);
    madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: the kernel may have them switched off
    data_ = static_cast<std::byte*>(memory);
  }
  ~CpuBuffer() override {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  CpuBuffer(const CpuBuffer&) = delete;
  CpuBuffer& operator=(const CpuBuffer&) = delete;

  std::byte* data() override { return data_; }
  std::size_t bytes() const override { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(int threads) : threads_(threads), device_name_(cpu::host_cpu_name()) {}

  std::string name() const override { return "cpu"; }
  std::string device_name() const override { return device_name_; }
  int threads() const override { return threads_; }
  std::size_t memory_available() const override { return cpu::host_memory_available(); }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override { return std::make_unique<CpuBuffer>(bytes); }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(host, device, bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    if (bytes > 0) std::memcpy(device, host, bytes);
  }
  void set_bytes(void* device, int value, std::size_t bytes) override {
    if (bytes > 0) std::memset(device, value, bytes);
  }
  void synchronize() override {}
  double read_bandwidth_bytes_per_s(std::span<const std::byte> memory, double seconds) override {
    return cpu::read_bandwidth_bytes_per_s(memory, threads_, seconds);
  }
  double matrix_peak_flops_per_s(DType dtype, double seconds) override {
    return cpu::matrix_peak_flops_per_s(dtype, threads_, seconds);
  }
  double core_clock_hz() const override { return cpu::core_clock_hz(); }

  std::unique_ptr<Communicator> connect(const MpiGroup& group) override {
    return make_mpi_communicator(group.comm);
  }

  std::string kernel_path() const override { return kernel_for({.head_dim = 128, .v_dim = 128}); }
  std::string why_not(const KvShape& shape) const override { return cpu::why_not_attended(shape); }
  std::string kernel_for(const KvShape& shape) const override {
    const std::string attention = cpu::attention_kernel(shape), linear = cpu::linear_kernel_path();
    return attention == linear ? attention : "attention " + attention + ", linear " + linear;
  }
  std::span<const DType> weight_dtypes() const override { return dtypes; }
  std::span<const DType> kv_dtypes() const override { return dtypes; }
  std::size_t packed_bytes(std::int64_t n, std::int64_t k, DType dtype) const override {
    return cpu::packed_bytes(n, k, dtype);
  }
  void fill_weight(const PackedWeight& weight, std::int64_t index,
                   std::span<const WeightSlice> slices) override {
    cpu::fill_weight(weight, index, slices, threads_);
  }
  void store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first, std::int64_t rows,
                    const void* values) override {
    cpu::store_weight(weight, index, first, rows, values, threads_);
  }
  void fill_matrix(BF16* out, const WeightSlice& slice) override { cpu::fill_matrix(out, slice, threads_); }

  void embed(std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens, const BF16* table,
             std::int64_t first, std::int64_t rows, BF16* out) override {
    cpu::embed(batch, hidden, tokens, table, first, rows, out);
  }
  void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                    const BF16* gain, float eps, BF16* out) override {
    cpu::add_rms_norm(rows, cols, delta, replace, residual, gain, eps, out, threads_);
  }
  void add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                      const BF16* gain, float eps, BF16* out) override {
    cpu::add_layer_norm(rows, cols, delta, replace, residual, gain, eps, out, threads_);
  }
  void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain, float eps,
                      HeadRows<BF16> x) override {
    cpu::rms_norm_heads(batch, heads, cols, gain, eps, x, threads_);
  }
  void square_sums(std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx,
                   float* sums) override {
    cpu::square_sums(batch, cols, x, ldx, sums);
  }
  void rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                     const SquareSums& whole, BF16* x, std::int64_t ldx) override {
    cpu::rms_norm_part(batch, cols, gain, eps, whole, x, ldx);
  }
  void add_bias(std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y, std::int64_t ldy) override {
    cpu::add_bias(rows, cols, bias, y, ldy);
  }
  void scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                         const std::int64_t* positions, BF16* y, std::int64_t ldy) override {
    cpu::scale_by_position(rows, cols, growth, positions, y, ldy);
  }
  void add(std::int64_t count, const BF16* x, BF16* y) override { cpu::add(count, x, y); }
  void layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                        const BF16* bias, float eps, HeadRows<BF16> x) override {
    cpu::layer_norm_heads(batch, heads, cols, gain, bias, eps, x, threads_);
  }
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y,
              std::int64_t ldy) override {
    cpu::linear(m, x, ldx, w, y, ldy, threads_);
  }
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
              std::int64_t ldy) override {
    cpu::linear(m, x, ldx, w, y, ldy, threads_);
  }
  void linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w,
                       HeadRows<BF16> y) override {
    cpu::linear_per_head(batch, x, w, y, threads_);
  }

  void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads, const std::int64_t* positions,
            HeadRows<const BF16> x, HeadRows<BF16> out) override {
    cpu::rope(table, batch, heads, positions, x, out, threads_);
  }
  std::size_t kv_page_bytes(const KvShape& shape) const override { return cpu::kv_page_bytes(shape); }
  void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                 std::int64_t ldk, const BF16* v, std::int64_t ldv) override {
    cpu::kv_append(cache, batch, slots, k, ldk, v, ldv, threads_);
  }
  void kv_fill_history(const KvView& cache, const HistorySlice& history) override {
    cpu::kv_fill_history(cache, history, threads_);
  }
  std::size_t attention_scratch_bytes(const KvShape& shape, std::int64_t most_requests,
                                      std::int64_t q_heads) const override {
    return cpu::attention_scratch_bytes(shape, most_requests, q_heads, threads_);
  }
  void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q,
                 BF16* o, float* lse, std::span<std::byte> scratch) override {
    cpu::attention(cache, batch, q_heads, scale, q, o, lse, scratch, threads_);
  }
  void index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t room,
                  ScoredToken* best, float* scores, std::int64_t longest) override {
    cpu::index_best(keys, batch, query, room, best, scores, longest, threads_);
  }
  void choose_best(std::int64_t parts, std::int64_t mine, std::int64_t batch, const ScoredToken* gathered,
                   const ChosenTokens& chosen) override {
    cpu::choose_best(parts, mine, batch, gathered, chosen, threads_);
  }
  void gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen,
                     const KvView& to) override {
    cpu::gather_tokens(from, batch, chosen, to, threads_);
  }
  void add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float* sinks, BF16* o,
                 float* lse) override {
    cpu::add_sinks(batch, heads, v_dim, sinks, o, lse, threads_);
  }
  void pack_partials(const PartialShape& shape, const BF16* o, const float* lse, std::byte* packed) override {
    cpu::pack_partials(shape, o, lse, packed, threads_);
  }
  void merge_partials(const PartialShape& shape, const std::byte* packed, BF16* out) override {
    cpu::merge_partials(shape, packed, out, threads_);
  }

  void gated(const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up, BF16* out) override {
    cpu::gated(unit, m, f, gate_up, out, threads_);
  }
  void gate_rows(std::int64_t rows, std::int64_t cols, const float* logits, BF16* y) override {
    cpu::gate_rows(rows, cols, logits, y);
  }
  void route(const RouterShape& shape, std::int64_t batch, const float* logits, const float* bias,
             std::int32_t* ids, float* weights) override {
    cpu::route(shape, batch, logits, bias, ids, weights, threads_);
  }
  std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                                std::int64_t ffn, std::int64_t local_experts) const override {
    return cpu::moe_scratch_bytes(most_requests, top_k, hidden, ffn, local_experts);
  }
  void moe_experts(std::int64_t batch, const BF16* x, const ExpertChoice& choice, const ExpertShard& experts,
                   const BF16* shared, BF16* out, std::span<std::byte> scratch) override {
    cpu::moe_experts(batch, x, choice, experts, shared, out, scratch, threads_);
  }

  void argmax(std::int64_t batch, std::int64_t cols, const float* logits, std::int64_t first_index,
              TopLogit* top) override {
    cpu::argmax(batch, cols, logits, first_index, top, threads_);
  }
  void select_token(std::int64_t parts, std::int64_t batch, const TopLogit* gathered,
                    std::int32_t* tokens) override {
    cpu::select_token(parts, batch, gathered, tokens);
  }
  void advance(std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
               std::int64_t* lengths) override {
    cpu::advance(batch, append, positions, slots, lengths);
  }
  void advance_rows(std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                    const StepState& state) override {
    cpu::advance_rows(batch, query_tokens, turns, state);
  }
  void copy_rows(const CopiedRows& copied) override { cpu::copy_rows(copied); }

 private:
  static constexpr DType dtypes[] = {DType::bf16, DType::fp8};
  int threads_;
  std::string device_name_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace helix
