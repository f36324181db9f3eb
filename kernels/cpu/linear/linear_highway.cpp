// Matrix products for any instruction set through Google Highway: weights are widened to fp32 in registers (a
// bf16 is the upper half of an fp32) and multiplied with broadcast fp32 activations. Up to 4 tokens against
// two vectors of outputs at a time keep 8 accumulators.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear/linear_highway.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/linear/linear_kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int64_t line_values = 2 * packing::tile_outputs;  // of one row of a tile
constexpr std::int64_t block_values = 2 * packing::tile_values;

// Sixteen bytes of fp8 become bf16: exponent + 120 and the mantissa moved up for normal values; the seven
// subnormal ones, m 2^-9, are normal in bf16.
template <class D>
HWY_INLINE hn::VFromD<D> widen_fp8(D d, hn::VFromD<D> v) {
  const auto magnitude = hn::And(v, hn::Set(d, 0x7f));
  const auto sign = hn::ShiftLeft<8>(hn::And(v, hn::Set(d, 0x80)));
  const auto at_least = [&](int m) HWY_ATTR {
    return hn::Gt(magnitude, hn::Set(d, static_cast<std::int16_t>(m - 1)));
  };
  const auto set = [&](int bits) HWY_ATTR { return hn::Set(d, static_cast<std::int16_t>(bits)); };
  auto w = hn::IfThenElseZero(at_least(1), set(118 << 7));
  w = hn::IfThenElse(at_least(2), hn::Add(hn::ShiftLeft<6>(magnitude), set((119 << 7) - 2 * 64)), w);
  w = hn::IfThenElse(at_least(4), hn::Add(hn::ShiftLeft<5>(magnitude), set((120 << 7) - 4 * 32)), w);
  w = hn::IfThenElse(at_least(8), hn::Add(hn::ShiftLeft<4>(magnitude), set(120 << 7)), w);
  w = hn::IfThenElse(at_least(0x7f), set(0x7fc0), w);
  return hn::Or(w, sign);
}

// A block of fp8 weights in the bf16 layout.
void widen_block(const std::byte* bytes, std::uint16_t* out) {
  const hn::CappedTag<std::int16_t, 16> d;
  const hn::Rebind<std::uint8_t, decltype(d)> d_bytes;
  HWY_ALIGN std::int16_t wide[line_values * 2];
  for (std::int64_t line = 0; line < block_values / (2 * line_values); ++line, bytes += 64) {
    for (std::size_t i = 0; i < 64; i += hn::Lanes(d)) {
      const auto v = hn::LoadU(d_bytes, reinterpret_cast<const std::uint8_t*>(bytes) + i);
      hn::StoreU(widen_fp8(d, hn::PromoteTo(d, v)), d, wide + i);
    }
    for (int row = 0; row < 2; ++row, out += line_values)
      for (int piece = 0; piece < 4; ++piece)
        std::memcpy(out + 8 * piece, wide + 16 * piece + 8 * row, 8 * sizeof *out);
  }
}

// Accumulators of up to 4 tokens, as named members because scalable vectors cannot be in arrays.
template <class V>
struct Sums {
  V r0, r1, r2, r3;
};

template <int rows, class D, class V>
HWY_INLINE void multiply_add(D d, const float* x, V w, Sums<V>& sums) {
  constexpr std::int64_t ld = packing::block_inputs;
  sums.r0 = hn::MulAdd(w, hn::Set(d, x[0]), sums.r0);
  if constexpr (rows > 1) sums.r1 = hn::MulAdd(w, hn::Set(d, x[ld]), sums.r1);
  if constexpr (rows > 2) sums.r2 = hn::MulAdd(w, hn::Set(d, x[2 * ld]), sums.r2);
  if constexpr (rows > 3) sums.r3 = hn::MulAdd(w, hn::Set(d, x[3 * ld]), sums.r3);
}

template <int rows, class D, class V>
HWY_INLINE void store_sums(D d, const Sums<V>& sums, float* result) {
  hn::StoreU(sums.r0, d, result);
  if constexpr (rows > 1) hn::StoreU(sums.r1, d, result + packing::panel_outputs);
  if constexpr (rows > 2) hn::StoreU(sums.r2, d, result + 2 * packing::panel_outputs);
  if constexpr (rows > 3) hn::StoreU(sums.r3, d, result + 3 * packing::panel_outputs);
}

// result[rows][32] = tokens [row, row + rows) against one panel.
template <DType dtype, int rows>
void multiply(const PackedRows& x, std::int64_t row, const std::byte* panel, float* result) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  using V = hn::VFromD<decltype(d)>;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t block_bytes = packing::panel_bytes(packing::block_inputs, dtype);
  const auto upper = hn::Set(du, 0xffff0000u);

  // fp8: all outputs of a widened block at once would need too many accumulators, so each pass widens again.
  for (std::int64_t output = 0; output < packing::panel_outputs; output += 2 * lanes) {
    const auto offset = [](std::int64_t o) {
      return o / packing::tile_outputs * packing::tile_values + o % packing::tile_outputs * 2;
    };
    const std::int64_t offset_a = offset(output), offset_b = offset(output + lanes);
    const auto zero = hn::Zero(d);
    Sums<V> a{zero, zero, zero, zero}, b{zero, zero, zero, zero};
    const float* xb =
        x.tile<float>(row / PackedRows::tile_rows, 0) + row % PackedRows::tile_rows * packing::block_inputs;
    const std::byte* block = panel;
    for (std::int64_t i = 0; i < x.blocks;
         ++i, block += block_bytes, xb += x.row_stride() * packing::block_inputs) {
      if (row == 0 && output == 0)
        for (std::int64_t line = 0; line < block_bytes; line += 64)
          __builtin_prefetch(block + prefetch_bytes + line, 0, 2);
      HWY_ALIGN std::uint16_t widened[block_values];
      const std::uint16_t* w = reinterpret_cast<const std::uint16_t*>(block);
      if constexpr (dtype == DType::fp8) {
        widen_block(block, widened);
        w = widened;
      }
      for (std::int64_t p = 0; p < packing::tile_rows; ++p, w += line_values) {
        const auto pair_a = hn::LoadU(du, reinterpret_cast<const std::uint32_t*>(w + offset_a));
        const auto pair_b = hn::LoadU(du, reinterpret_cast<const std::uint32_t*>(w + offset_b));
        multiply_add<rows>(d, xb + 2 * p, hn::BitCast(d, hn::ShiftLeft<16>(pair_a)), a);
        multiply_add<rows>(d, xb + 2 * p, hn::BitCast(d, hn::ShiftLeft<16>(pair_b)), b);
        multiply_add<rows>(d, xb + 2 * p + 1, hn::BitCast(d, hn::And(pair_a, upper)), a);
        multiply_add<rows>(d, xb + 2 * p + 1, hn::BitCast(d, hn::And(pair_b, upper)), b);
      }
    }
    store_sums<rows>(d, a, result + output);
    store_sums<rows>(d, b, result + output + lanes);
  }
}

template <DType dtype>
void multiply_rows(const PackedRows& x, std::int64_t row, std::int64_t rows, const std::byte* panel,
                   float* result) {
  switch (rows) {
    case 1:
      return multiply<dtype, 1>(x, row, panel, result);
    case 2:
      return multiply<dtype, 2>(x, row, panel, result);
    case 3:
      return multiply<dtype, 3>(x, row, panel, result);
    default:
      return multiply<dtype, 4>(x, row, panel, result);
  }
}

void multiply_panel(const PackedRows& x, std::int64_t row, std::int64_t rows, DType dtype,
                    const std::byte* panel, float* result) {
  dtype == DType::fp8 ? multiply_rows<DType::fp8>(x, row, rows, panel, result)
                      : multiply_rows<DType::bf16>(x, row, rows, panel, result);
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {
namespace {

HWY_EXPORT(multiply_panel);

inline void assign(float& y, float v) {
  y = v;
}
inline void assign(BF16& y, float v) {
  y = to_bf16(v);
}

}  // namespace

template <class Out>
void product_highway(const PanelProduct<Out>& p) {
  constexpr std::int64_t rows_at_once = 4;
  float result[rows_at_once * packing::panel_outputs];
  const auto multiply = &HWY_DYNAMIC_DISPATCH(multiply_panel);
  const std::int64_t panel_bytes = p.x.blocks * packing::panel_bytes(packing::block_inputs, p.dtype);
  const std::byte* panel = p.weights;
  for (std::int64_t n0 = 0; n0 < p.n; n0 += packing::panel_outputs, panel += panel_bytes) {
    const std::int64_t outputs = std::min(packing::panel_outputs, p.n - n0);
    for (std::int64_t row = 0; row < p.x.m; row += rows_at_once) {
      const std::int64_t rows = std::min(rows_at_once, p.x.m - row);
      multiply(p.x, row, rows, p.dtype, panel, result);
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t j = 0; j < outputs; ++j)
          assign(p.y[(row + r) * p.ldy + n0 + j], p.scale * result[r * packing::panel_outputs + j]);
    }
  }
}
template void product_highway(const PanelProduct<float>&);
template void product_highway(const PanelProduct<BF16>&);

}  // namespace helix::cpu
#endif
