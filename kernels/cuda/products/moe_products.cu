// The grouped products of the active experts (products.cuh): each reads its weights once and has few rows.
#include "kernels/cuda/products/moe.hpp"
#include "kernels/cuda/products/products.cuh"

namespace helix::cuda {
namespace {

template <ProductOf kOf, typename Y>
void grouped_product(Stream stream, std::int64_t batch, std::int64_t most_active, const PackedWeight& w,
                     const BF16* bias, const GatedUnit& unit, const BF16* x, const MoeScratch& s, Y* y) {
  ProductShape shape = product_shape(w);
  if (kOf == ProductOf::gate_up) shape.columns /= 2;
  shape.ldx = w.k;
  shape.ldy = shape.columns;
  const ExpertRows experts{.starts = s.starts,
                           .active = s.active,
                           .active_count = s.active_count,
                           .tokens = s.tokens,
                           .bias = bias,
                           .biased = bias != nullptr,
                           .unit = UnitValues(unit)};
  const auto run = w.dtype == DType::bf16  ? launch_product_for<kOf, DType::bf16, Y>
                   : w.dtype == DType::fp8 ? launch_product_for<kOf, DType::fp8, Y>
                                           : launch_product_for<kOf, DType::nvfp4, Y>;
  // Experts of a token are distinct, so that none has more rows than the batch.
  run(batch, stream, most_active, shape, experts, w.data, x, y);
}

}  // namespace

void expert_products(Stream stream, std::int64_t batch, std::int64_t top_k, const BF16* x,
                     const ExpertShard& shard, const MoeScratch& scratch) {
  const PackedWeight &gate_up = shard.gate_up, &down = shard.down;
  const std::int64_t assignments = batch * top_k;
  const std::int64_t most_active = gate_up.count < assignments ? gate_up.count : assignments;
  grouped_product<ProductOf::gate_up>(stream, batch, most_active, gate_up, shard.gate_up_bias, shard.unit, x,
                                      scratch, scratch.activated);
  grouped_product<ProductOf::down>(stream, batch, most_active, down, shard.down_bias, shard.unit,
                                   scratch.activated, scratch, scratch.expert_out);
}

}  // namespace helix::cuda
