// The ops that are kernels of ours, as members of Backend. What a GPU has besides them, memory and a matrix
// library, comes from the derived class: CUDA's (cuda_backend.cpp), or the emulation's (tests/cuda).
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/device/gpu.hpp"
#include "kernels/cuda/device/stream.hpp"
#include "kernels/cuda/products/matrix_product.hpp"
#include "kernels/cuda/providers/attention_provider.hpp"
#include "kernels/cuda/small/packed_weight.hpp"
#include "kernels/ops/backend.hpp"

namespace helix::cuda {

class KernelOps : public Backend {
 public:
  std::string kernel_path() const override { return "cuda-mma-bf16"; }
  std::string kernel_for(const KvShape& shape) const override;
  int threads() const override { return 1; }

  std::span<const DType> weight_dtypes() const override;
  std::span<const DType> kv_dtypes() const override;
  std::size_t packed_bytes(std::int64_t n, std::int64_t k, DType dtype) const override;
  void fill_weight(const PackedWeight& weight, std::int64_t index,
                   std::span<const WeightSlice> slices) override;
  void store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first, std::int64_t rows,
                    const void* values) override;
  void fill_matrix(BF16* out, const WeightSlice& slice) override;

  // linear.cpp
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y,
              std::int64_t ldy) override;
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
              std::int64_t ldy) override;
  void linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w,
                       HeadRows<BF16> y) override;

  void embed(std::int64_t batch, std::int64_t hidden, const std::int32_t* tokens, const BF16* table,
             std::int64_t first, std::int64_t rows, BF16* out) override;
  void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                    const BF16* gain, float eps, BF16* out) override;
  void add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                      const BF16* gain, float eps, BF16* out) override;
  void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain, float eps,
                      HeadRows<BF16> x) override;
  void square_sums(std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx,
                   float* sums) override;
  void rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                     const SquareSums& whole, BF16* x, std::int64_t ldx) override;
  void add_bias(std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y, std::int64_t ldy) override;
  void scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                         const std::int64_t* positions, BF16* y, std::int64_t ldy) override;
  void add(std::int64_t count, const BF16* x, BF16* y) override;
  void layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                        const BF16* bias, float eps, HeadRows<BF16> x) override;

  void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads, const std::int64_t* positions,
            HeadRows<const BF16> x, HeadRows<BF16> out) override;

  void beside_exchange(bool beside) override { beside_exchange_ = beside; }

  // attention_ops.cu
  std::string why_not(const KvShape& shape) const override;
  std::string why_not_attended(const KvShape& shape, std::int64_t q_heads,
                               std::int64_t query_tokens) const override;
  std::size_t kv_page_bytes(const KvShape& shape) const override;
  void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                 std::int64_t ldk, const BF16* v, std::int64_t ldv) override;
  void kv_append_new(const KvView& cache, std::int64_t batch, const NewTokens& tokens) override;
  void kv_fill_history(const KvView& cache, const HistorySlice& history) override;
  std::size_t attention_scratch_bytes(const KvShape& shape, std::int64_t most_requests,
                                      std::int64_t q_heads) const override;
  void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q,
                 BF16* o, float* lse, std::span<std::byte> scratch) override;
  void index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t room,
                  ScoredToken* best, float* scores, std::int64_t longest) override;
  void choose_best(std::int64_t parts, std::int64_t mine, std::int64_t batch, const ScoredToken* gathered,
                   const ChosenTokens& chosen) override;
  void gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen,
                     const KvView& to) override;
  void add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float* sinks, BF16* o,
                 float* lse) override;
  void pack_partials(const PartialShape& shape, const BF16* o, const float* lse, std::byte* packed) override;
  void merge_partials(const PartialShape& shape, const std::byte* packed, BF16* out) override;

  void gated(const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up, BF16* out) override;
  void gate_rows(std::int64_t rows, std::int64_t cols, const float* logits, BF16* y) override;
  void route(const RouterShape& shape, std::int64_t batch, const float* logits, const float* bias,
             std::int32_t* ids, float* weights) override;
  std::size_t moe_scratch_bytes(std::int64_t most_requests, std::int64_t top_k, std::int64_t hidden,
                                std::int64_t ffn, std::int64_t local_experts) const override;
  void moe_experts(std::int64_t batch, const BF16* x, const ExpertChoice& choice, const ExpertShard& experts,
                   const BF16* shared, BF16* out, std::span<std::byte> scratch) override;

  void argmax(std::int64_t batch, std::int64_t cols, const float* logits, std::int64_t first_index,
              TopLogit* top) override;
  void select_token(std::int64_t parts, std::int64_t batch, const TopLogit* gathered,
                    std::int32_t* tokens) override;
  void advance(std::int64_t batch, Append append, std::int64_t* positions, std::int64_t* slots,
               std::int64_t* lengths) override;
  void advance_rows(std::int64_t batch, std::int64_t query_tokens, const AppendTurns& turns,
                    const StepState& state) override;
  void copy_rows(const CopiedRows& copied) override;

 protected:
  /// terms_bytes: memory of products with quantised weights and many rows (linear.cpp), taken with the first
  /// such weights.
  KernelOps(const Gpu& gpu, Stream stream, std::size_t terms_bytes = std::size_t{64} << 20)
      : limits_(gpu), stream_(stream), terms_bytes_(terms_bytes) {}
  /// From now on shapes may name its maker.
  void add_provider(std::unique_ptr<AttentionProvider> provider) {
    providers_.push_back(std::move(provider));
  }
  Stream stream() const { return stream_; }
  const Gpu& limits() const { return limits_; }

  /// Has the matrix library any product of this type on this GPU? It has all of bf16.
  virtual bool multiplies(DType dtype) const = 0;
  /// False: it has none of this shape.
  virtual bool multiply(const MatrixProduct& product, const MatrixOperands& operands) = 0;

 private:
  /// Null: none. Those of our own are no provider.
  AttentionProvider* provider(const KvShape& shape) const;

  /// Of a quantised matrix that is about to be written; and the memory that its products take.
  void make_padding(const PackedWeight& weight, std::byte* matrix, const PackedLayout& layout);

  template <typename Y>
  void product(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, Y* y,
               std::int64_t ldy);
  template <typename Y>
  bool product_of_terms(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, Y* y,
                        std::int64_t ldy);

  Gpu limits_;
  Stream stream_;
  bool beside_exchange_ = false;
  std::vector<std::unique_ptr<AttentionProvider>> providers_;
  std::size_t terms_bytes_;
  std::unique_ptr<Buffer> terms_;
  std::unique_ptr<Buffer> given_;  // weights on their way
};

}  // namespace helix::cuda
