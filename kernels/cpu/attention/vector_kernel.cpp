#include "kernels/cpu/attention/vector_kernel.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/machine/isa.hpp"

namespace helix::cpu {
namespace {

VectorWorkspace arrays(const UnitShape& shape, std::byte* workspace) {
  return carved<VectorWorkspace>(workspace, shape);
}

}  // namespace

std::string VectorChunkKernel::name() const {
  return highway_target_name();
}

std::size_t VectorChunkKernel::workspace_bytes(const UnitShape& shape) const {
  return carved_bytes<VectorWorkspace>(Carver(), shape);
}

void VectorChunkKernel::begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const {
  const VectorWorkspace ws = arrays(shape, workspace);
  for (std::int64_t i = 0; i < shape.heads * shape.layout.head_dim; ++i) ws.q[i] = to_float(q[i]);
  std::fill_n(ws.o, shape.heads * shape.layout.v_dim, 0.0f);
  std::fill_n(ws.max, shape.heads, -std::numeric_limits<float>::infinity());
  std::fill_n(ws.sum, shape.heads, 0.0f);
}

void VectorChunkKernel::process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
                                std::byte* workspace) const {
  process_(shape, chunk, next, arrays(shape, workspace));
}

void VectorChunkKernel::finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const {
  const VectorWorkspace ws = arrays(shape, workspace);
  const std::int64_t v_dim = shape.layout.v_dim;
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    lse2[h] = ws.max[h] * shape.scale_log2 + std::log2(ws.sum[h]);
    const float factor = ws.sum[h] == 0.0f ? 0.0f : 1.0f / ws.sum[h];  // all scores -inf
    for (std::int64_t d = 0; d < v_dim; ++d) o[h * v_dim + d] = ws.o[h * v_dim + d] * factor;
  }
}

}  // namespace helix::cpu
