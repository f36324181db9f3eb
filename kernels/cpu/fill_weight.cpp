// Synthetic weights, generated straight into their layout: 16 outputs at a time, two inputs each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/fill_weight.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include <algorithm>
#include <array>

#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/linear.hpp"
#include "kernels/cpu/packing.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/synthetic.hpp"

#ifndef HELIX_CPU_COLUMN_STEP
#define HELIX_CPU_COLUMN_STEP
namespace helix::cpu {
constexpr std::uint32_t column_step = 0x9e3779b9u;  // of synthetic::unit_value
}
#endif

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// scale * synthetic::unit_value for positions whose row key and column are already added up.
template <class DU, class VF>
HWY_INLINE VF value(DU du, hn::VFromD<DU> x, VF scale) {
  const hn::RebindToSigned<DU> di;
  const hn::RebindToFloat<DU> df;
  x = hn::Xor(x, hn::ShiftRight<16>(x));
  x = hn::Mul(x, hn::Set(du, 0x7feb352du));
  x = hn::Xor(x, hn::ShiftRight<15>(x));
  x = hn::Mul(x, hn::Set(du, 0x846ca68bu));
  x = hn::Xor(x, hn::ShiftRight<16>(x));
  const auto h = hn::ShiftRight<24>(hn::BitCast(di, x));
  const auto odd = hn::Add(hn::ShiftLeft<1>(h), hn::Set(di, 1));
  return hn::Mul(hn::Mul(hn::ConvertTo(df, odd), hn::Set(df, 1.0f / 256.0f)), scale);
}

// A pair of bf16, the first in the lower half. Finite values only.
template <class DU, class VF>
HWY_INLINE hn::VFromD<DU> bf16_pair(DU du, VF first, VF second) {
  const auto rounded = [&](VF v) HWY_ATTR {
    const auto u = hn::BitCast(du, v);
    return hn::Add(u, hn::Add(hn::Set(du, 0x7fffu), hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u))));
  };
  return hn::Or(hn::ShiftRight<16>(rounded(first)), hn::And(rounded(second), hn::Set(du, 0xffff0000u)));
}

// A byte of fp8 in each lane, as to_fp8 does it. Finite values only.
template <class DU, class VF>
HWY_INLINE hn::VFromD<DU> fp8_byte(DU du, VF v) {
  const hn::RebindToFloat<DU> df;
  const hn::RebindToSigned<DU> di;
  const auto sign = hn::And(hn::ShiftRight<24>(hn::BitCast(du, v)), hn::Set(du, 0x80u));
  const auto a = hn::Min(hn::Abs(v), hn::Set(df, 448.0f));
  const auto u = hn::BitCast(du, a);
  const auto rounded =
      hn::Add(u, hn::Add(hn::Set(du, 0x7ffffu), hn::And(hn::ShiftRight<20>(u), hn::Set(du, 1u))));
  const auto normal = hn::ShiftRight<20>(hn::Sub(rounded, hn::Set(du, 120u << 23)));
  const auto subnormal = hn::BitCast(du, hn::NearestInt(hn::Mul(a, hn::Set(df, 512.0f))));
  const auto is_normal = hn::Gt(hn::BitCast(di, u), hn::Set(di, (121 << 23) - 1));  // a >= 2^-6
  return hn::Or(
      sign, hn::BitCast(du, hn::IfThenElse(is_normal, hn::BitCast(di, normal), hn::BitCast(di, subnormal))));
}

// One panel: start[output] is row key + first column * column_step; outputs past n have scale 0 and are
// masked.
void fill_panel(const std::uint32_t* start, const float* scale, std::int64_t outputs, std::int64_t k,
                DType dtype, std::byte* panel) {
  const hn::CappedTag<std::uint32_t, 16> du;
  const hn::RebindToFloat<decltype(du)> df;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(du));
  HWY_ALIGN std::uint32_t valid[packing::panel_outputs];
  for (std::int64_t o = 0; o < packing::panel_outputs; ++o) valid[o] = o < outputs ? 0xffffffffu : 0;
  HWY_ALIGN std::uint32_t bits[packing::tile_outputs];
  for (std::int64_t block = 0; block < packing::blocks(k); ++block) {
    for (std::int64_t o = 0; o < packing::panel_outputs; o += lanes) {
      const std::int64_t tile = block * 2 + o / packing::tile_outputs;
      std::byte* out = panel + tile * packing::tile_values * packing::bytes_per_weight(dtype);
      const auto scales = hn::LoadU(df, scale + o);
      const auto mask = hn::LoadU(du, valid + o);
      for (std::int64_t p = 0; p < packing::tile_rows; ++p) {
        const std::int64_t input = block * packing::block_inputs + 2 * p;
        auto position =
            hn::Add(hn::LoadU(du, start + o), hn::Set(du, static_cast<std::uint32_t>(input) * column_step));
        const auto first = value(du, position, scales);
        const auto second = value(du, hn::Add(position, hn::Set(du, column_step)), scales);
        const std::uint32_t inputs_left = input + 1 < k ? 0xffffffffu : input < k ? 0x0000ffffu : 0u;
        const std::int64_t in_tile = o % packing::tile_outputs;
        if (dtype == DType::bf16) {
          const auto pair = hn::And(bf16_pair(du, first, second), hn::And(mask, hn::Set(du, inputs_left)));
          hn::StoreU(pair, du, reinterpret_cast<std::uint32_t*>(out + p * 64 + in_tile * 4));
          continue;
        }
        const auto pair = hn::Or(fp8_byte(du, first), hn::ShiftLeft<16>(fp8_byte(du, second)));
        hn::StoreU(hn::And(pair, hn::And(mask, hn::Set(du, inputs_left))), du, bits);
        for (std::int64_t i = 0; i < lanes; ++i) {
          std::byte* at = out + packing::index_in_tile(in_tile + i, 2 * p, dtype);
          at[0] = static_cast<std::byte>(bits[i]);
          at[1] = static_cast<std::byte>(bits[i] >> 16);
        }
      }
    }
  }
}

// One row of bf16 values; `start` as above.
void fill_row(std::uint32_t start, float scale, std::int64_t cols, BF16* out) {
  const hn::CappedTag<std::uint32_t, 16> du;
  const hn::RebindToFloat<decltype(du)> df;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(du));
  const auto first_columns = hn::Mul(hn::Iota(du, 0), hn::Set(du, 2 * column_step));
  HWY_ALIGN std::uint32_t bits[packing::tile_outputs];
  for (std::int64_t c = 0; c < cols; c += 2 * lanes) {
    const auto position =
        hn::Add(first_columns, hn::Set(du, start + static_cast<std::uint32_t>(c) * column_step));
    const auto first = value(du, position, hn::Set(df, scale));
    const auto second = value(du, hn::Add(position, hn::Set(du, column_step)), hn::Set(df, scale));
    hn::StoreU(bf16_pair(du, first, second), du, bits);
    std::copy_n(reinterpret_cast<const BF16*>(bits), std::min(2 * lanes, cols - c), out + c);
  }
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {
namespace {

HWY_EXPORT(fill_panel);
HWY_EXPORT(fill_row);

std::uint32_t start_of(const WeightSlice& slice, std::int64_t row) {
  return synthetic::row_key(slice.key, slice.row0 + row) +
         static_cast<std::uint32_t>(slice.col0) * column_step;
}

}  // namespace

void fill_weight(const PackedWeight& weight, std::int64_t index, std::span<const WeightSlice> slices,
                 int threads) {
  best_isa();
  std::byte* data = weight.data + static_cast<std::size_t>(index) * weight.stride_bytes;
  in_parallel(threads, [&](int thread, int team) {
    const Range mine = split(packing::panels(weight.n), thread, team);
    const auto fill = &HWY_DYNAMIC_DISPATCH(fill_panel);
    for (std::int64_t panel = mine.begin; panel < mine.end; ++panel) {
      std::array<std::uint32_t, packing::panel_outputs> start{};
      std::array<float, packing::panel_outputs> scale{};
      const std::int64_t begin = panel * packing::panel_outputs;
      const std::int64_t outputs = std::min(packing::panel_outputs, weight.n - begin);
      std::int64_t slice_begin = 0;
      for (const WeightSlice& slice : slices) {
        const std::int64_t slice_end = slice_begin + slice.rows;
        for (std::int64_t o = std::max(begin, slice_begin); o < std::min(begin + outputs, slice_end); ++o) {
          start[static_cast<std::size_t>(o - begin)] = start_of(slice, o - slice_begin);
          scale[static_cast<std::size_t>(o - begin)] = slice.scale;
        }
        slice_begin = slice_end;
      }
      fill(start.data(), scale.data(), outputs, weight.k, weight.dtype,
           data + panel * packing::panel_bytes(weight.k, weight.dtype));
    }
  });
}

void fill_matrix(BF16* out, const WeightSlice& slice, int threads) {
  best_isa();
  in_parallel(threads, [&](int thread, int team) {
    const Range mine = split(slice.rows, thread, team);
    const auto fill = &HWY_DYNAMIC_DISPATCH(fill_row);
    for (std::int64_t row = mine.begin; row < mine.end; ++row)
      fill(start_of(slice, row), slice.scale, slice.cols, out + row * slice.cols);
  });
}

}  // namespace helix::cpu
#endif
