#include "kernels/cuda/products/quantized_linear.hpp"

#include "kernels/cuda/products/products.cuh"

namespace helix::cuda {

template <typename Y>
void quantized_product(Stream stream, std::int64_t m, const BF16* x, std::int64_t ldx, std::int64_t x_stride,
                       const PackedWeight& w, Y* y, std::int64_t ldy, std::int64_t y_stride) {
  ProductShape shape = product_shape(w);
  shape.rows = m;
  shape.ldx = ldx;
  shape.ldy = ldy;
  shape.x_stride = x_stride;
  shape.y_stride = y_stride;
  const auto run = w.dtype == DType::fp8 ? launch_product_for<ProductOf::dense, DType::fp8, Y>
                                         : launch_product_for<ProductOf::dense, DType::nvfp4, Y>;
  run(m, stream, w.count, shape, {}, w.data, x, y);
}
template void quantized_product(Stream, std::int64_t, const BF16*, std::int64_t, std::int64_t,
                                const PackedWeight&, BF16*, std::int64_t, std::int64_t);
template void quantized_product(Stream, std::int64_t, const BF16*, std::int64_t, std::int64_t,
                                const PackedWeight&, float*, std::int64_t, std::int64_t);

}  // namespace helix::cuda
