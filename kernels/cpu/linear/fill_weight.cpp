// Synthetic weights, generated straight into their layout: 16 outputs at a time, two inputs each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear/fill_weight.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first.
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/packing.hpp"
#include "kernels/cpu/machine/isa.hpp"
#include "kernels/cpu/machine/parallel.hpp"
#include "kernels/ops/synthetic.hpp"

#ifndef HELIX_CPU_FILL_WEIGHT_COMMON  // once for all targets
#define HELIX_CPU_FILL_WEIGHT_COMMON
namespace helix::cpu {
namespace {

using synthetic::column_step;

// What a tile of 16 outputs is made of: start[output] is row key + first column * column_step; outputs that
// do not exist have keep = 0, others all ones.
struct TileSource {
  std::uint32_t start[packing::tile_outputs];
  std::uint32_t keep[packing::tile_outputs];
  float scale[packing::tile_outputs];
};

}  // namespace
}  // namespace helix::cpu
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

// Values of inputs (input, input + 1) for the outputs from `output` on.
template <class DU>
struct InputPair {
  hn::VFromD<hn::RebindToFloat<DU>> first, second;

  HWY_INLINE InputPair(DU du, const TileSource& source, std::int64_t output, std::int64_t input) {
    const hn::RebindToFloat<DU> df;
    const auto scale = hn::LoadU(df, source.scale + output);
    const auto position = hn::Add(hn::LoadU(du, source.start + output),
                                  hn::Set(du, static_cast<std::uint32_t>(input) * column_step));
    first = value(du, position, scale);
    second = value(du, hn::Add(position, hn::Set(du, column_step)), scale);
  }
};

// Which halves of a pair of inputs exist.
HWY_INLINE std::uint32_t existing(std::int64_t input, std::int64_t k, std::uint32_t both,
                                  std::uint32_t first) {
  return input + 1 < k ? both : input < k ? first : 0u;
}

void fill_bf16_tile(const TileSource& source, std::int64_t input0, std::int64_t k, std::byte* tile) {
  const hn::CappedTag<std::uint32_t, packing::tile_outputs> du;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(du));
  for (std::int64_t row = 0; row < packing::tile_rows; ++row, tile += 64) {
    const std::int64_t input = input0 + 2 * row;
    const auto inputs = hn::Set(du, existing(input, k, 0xffffffffu, 0xffffu));
    for (std::int64_t output = 0; output < packing::tile_outputs; output += lanes) {
      const InputPair pair(du, source, output, input);
      const auto keep = hn::And(inputs, hn::LoadU(du, source.keep + output));
      hn::StoreU(hn::And(bf16_pair(du, pair.first, pair.second), keep), du,
                 reinterpret_cast<std::uint32_t*>(tile + output * 4));
    }
  }
}

void fill_fp8_tile(const TileSource& source, std::int64_t input0, std::int64_t k, std::byte* tile) {
  const hn::CappedTag<std::uint32_t, packing::tile_outputs> du;
  const hn::Rebind<std::uint16_t, decltype(du)> d_pair;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(du));
  HWY_ALIGN std::uint16_t rows[2][packing::tile_outputs];
  for (std::int64_t row = 0; row < packing::tile_rows; ++row) {
    const std::int64_t input = input0 + 2 * row;
    const auto inputs = hn::Set(du, existing(input, k, 0xffffu, 0xffu));
    for (std::int64_t output = 0; output < packing::tile_outputs; output += lanes) {
      const InputPair pair(du, source, output, input);
      const auto keep = hn::And(inputs, hn::LoadU(du, source.keep + output));
      const auto bytes = hn::Or(fp8_byte(du, pair.first), hn::ShiftLeft<8>(fp8_byte(du, pair.second)));
      hn::StoreU(hn::TruncateTo(d_pair, hn::And(bytes, keep)), d_pair, rows[row % 2] + output);
    }
    if (row % 2 == 0) continue;
    for (int group = 0; group < 4; ++group, tile += 16) {
      std::memcpy(tile, rows[0] + 4 * group, 8);
      std::memcpy(tile + 8, rows[1] + 4 * group, 8);
    }
  }
}

void fill_panel(const std::array<TileSource, 2>& sources, std::int64_t k, DType dtype, std::byte* panel) {
  const auto fill_tile = dtype == DType::fp8 ? fill_fp8_tile : fill_bf16_tile;
  for (std::int64_t block = 0; block < packing::blocks(k); ++block) {
    for (const TileSource& source : sources) {
      fill_tile(source, block * packing::block_inputs, k, panel);
      panel += packing::tile_values * packing::bytes_per_weight(dtype);
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
      std::array<TileSource, 2> sources{};
      const std::int64_t begin = panel * packing::panel_outputs;
      const std::int64_t outputs = std::min(packing::panel_outputs, weight.n - begin);
      std::int64_t slice_begin = 0;
      for (const WeightSlice& slice : slices) {
        const std::int64_t slice_end = slice_begin + slice.rows;
        for (std::int64_t o = std::max(begin, slice_begin); o < std::min(begin + outputs, slice_end); ++o) {
          TileSource& source = sources[static_cast<std::size_t>((o - begin) / packing::tile_outputs)];
          const std::int64_t i = (o - begin) % packing::tile_outputs;
          source.start[i] = start_of(slice, o - slice_begin);
          source.scale[i] = slice.scale;
          source.keep[i] = 0xffffffffu;
        }
        slice_begin = slice_end;
      }
      fill(sources, weight.k, weight.dtype, data + panel * packing::panel_bytes(weight.k, weight.dtype));
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
