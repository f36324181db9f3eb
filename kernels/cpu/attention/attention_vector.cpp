// Flash-decode of GQA through Google Highway, for every shape and instruction set: bf16 pages are multiplied
// as they lie, fp8 pages are first widened to them.
#include <cstring>

#include "kernels/cpu/attention/vector_kernel.hpp"

// The fallback is EMU128, since SCALAR has no shuffles. Highway avoids EMU128 before gcc 12.3 because of gcc
// bug 106322, which is in multiply-high; that is not used here.
#ifndef HWY_BROKEN_EMU128
#define HWY_BROKEN_EMU128 0
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention/attention_vector.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/attention/vector_attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {

/// Tiles of fp8 words -> tiles of bf16 pairs.
HWY_INLINE void widen_tiles(const std::byte* from, std::int64_t values, std::uint16_t* to) {
  for (std::int64_t i = 0; i < values; i += 64) widen<64>(from + i, to + i, to + i + 32);
}

void ProcessGqaChunk(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
                     const VectorWorkspace& ws) {
  const KvLayout& layout = shape.layout;
  const auto k_pairs = [&](const Segment& s) HWY_ATTR {
    if (!layout.fp8) return as<const std::uint16_t>(s.k);
    widen_tiles(s.k, s.slots * layout.head_dim, ws.k);
    return static_cast<const std::uint16_t*>(ws.k);
  };
  const auto v_pairs = [&](const Segment& s) HWY_ATTR {
    if (layout.fp8)
      widen_tiles(s.v, s.slots * layout.v_dim, ws.v);
    else if (s.valid == s.slots)
      return as<const std::uint16_t>(s.v);
    else
      std::memcpy(ws.v, s.v, static_cast<std::size_t>(s.slots * layout.v_dim) * 2);
    clear_values_from(layout, s.valid, s.slots, ws.v);
    return static_cast<const std::uint16_t*>(ws.v);
  };
  process_chunk(shape, chunk, next, ws, k_pairs, v_pairs);
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {

HWY_EXPORT(ProcessGqaChunk);

const ChunkKernel& vector_chunk_kernel() {
  static const VectorChunkKernel kernel([](auto&... chunk) {
    HWY_DYNAMIC_DISPATCH(ProcessGqaChunk)(chunk...);
  });
  return kernel;
}

}  // namespace helix::cpu
#endif
