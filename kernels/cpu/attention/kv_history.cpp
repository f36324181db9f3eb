// The synthetic history of a KV cache, written at memory speed: the hash of synthetic.hpp in vector lanes
// that follow the page layout (kv_layout.hpp), one 32-bit word of two bf16 or four fp8 values a lane. Such a
// word of K and V has a pair of one lane of the layout or, of fp8, pairs of two.
#include <omp.h>

#include <cstring>
#include <vector>

#include "kernels/cpu/attention/attention.hpp"
#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/cpu/machine/isa.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/ops/tensor_ids.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention/kv_history.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace helix::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Lanes32 = hn::CappedTag<std::uint32_t, 16>;
using Word = hn::Vec<Lanes32>;
constexpr Lanes32 du;
constexpr hn::RebindToSigned<Lanes32> di;
constexpr hn::RebindToFloat<Lanes32> df;

HWY_INLINE Word mix(Word x) {
  x = hn::Xor(x, hn::ShiftRight<16>(x));
  x = hn::Mul(x, hn::Set(du, 0x7feb352du));
  x = hn::Xor(x, hn::ShiftRight<15>(x));
  x = hn::Mul(x, hn::Set(du, 0x846ca68bu));
  return hn::Xor(x, hn::ShiftRight<16>(x));
}

// Bits of unit_value: (2 h + 1) / 256.
HWY_INLINE Word unit_value_bits(Word row_plus_col) {
  const auto h = hn::ShiftRight<24>(hn::BitCast(di, mix(row_plus_col)));
  const auto odd = hn::Add(hn::ShiftLeft<1>(h), hn::Set(di, 1));
  return hn::BitCast(du, hn::Mul(hn::ConvertTo(df, odd), hn::Set(df, 1.0f / 256.0f)));
}

// kv_code(to_fp8(x)) for 2^-10 < |x| < 448, in the low byte of each lane.
HWY_INLINE Word fp8_byte(Word bits) {
  const auto sign = hn::ShiftRight<31>(bits);
  const auto m = hn::And(bits, hn::Set(du, 0x7fffffffu));
  const auto ties = hn::And(hn::ShiftRight<20>(m), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(m, hn::Set(du, 0x7ffffu)), ties);
  const auto normal = hn::ShiftRight<20>(hn::Sub(rounded, hn::Set(du, 120u << 23)));
  const auto a = hn::BitCast(df, m);
  const auto subnormal = hn::BitCast(du, hn::NearestInt(hn::Mul(a, hn::Set(df, 512.0f))));
  const auto is_small = hn::RebindMask(du, hn::Lt(a, hn::Set(df, 0x1p-6f)));
  const auto magnitude = hn::IfThenElse(is_small, subnormal, normal);
  return hn::Xor(hn::Or(hn::ShiftLeft<1>(magnitude), sign), hn::Set(du, 0xffu));
}

HWY_INLINE void emit(std::byte* to, Word a, Word b) {
  const auto low = hn::ShiftRight<16>(unit_value_bits(a));
  const auto high = hn::And(unit_value_bits(b), hn::Set(du, 0xffff0000u));
  hn::StoreU(hn::Or(low, high), du, reinterpret_cast<std::uint32_t*>(to));
}

HWY_INLINE void emit(std::byte* to, Word a, Word b, Word c, Word d) {
  const auto ab = hn::Or(fp8_byte(unit_value_bits(a)), hn::ShiftLeft<8>(fp8_byte(unit_value_bits(b))));
  const auto cd = hn::Or(fp8_byte(unit_value_bits(c)), hn::ShiftLeft<8>(fp8_byte(unit_value_bits(d))));
  hn::StoreU(hn::Or(ab, hn::ShiftLeft<16>(cd)), du, reinterpret_cast<std::uint32_t*>(to));
}

using synthetic::column_step;

HWY_INLINE Word column(std::int64_t col) {
  return hn::Set(du, static_cast<std::uint32_t>(col) * column_step);
}
/// Hash inputs of columns first, first + stride, ...
HWY_INLINE Word columns(std::int64_t first, std::uint32_t stride) {
  return hn::Add(column(first), hn::Mul(hn::Iota(du, 0), hn::Set(du, stride * column_step)));
}

/// What the 16 words of a line of fp8 pairs begin with.
struct PairsOfWord {
  std::uint32_t summed[16], lane[16];  // of [4][2][4 lanes][2]

  PairsOfWord() {
    for (std::uint32_t w = 0; w < 16; ++w) {
      summed[w] = w / 2 % 2 * 2;
      lane[w] = w / 4 * 4 + w % 2 * 2;
    }
  }
};

void FillK(const KvLayout& layout, const std::uint32_t* rows, std::byte* part) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(du));
  const PairsOfWord pairs;
  for (std::int64_t group = 0; group < layout.padded_tokens; group += 16) {
    std::uint32_t of_lane[16], of_next[16];  // with the word's first column
    for (int w = 0; w < 16; ++w) {
      of_lane[w] = rows[group + pairs.lane[w]] + pairs.summed[w] * column_step;
      of_next[w] = rows[group + pairs.lane[w] + 1] + pairs.summed[w] * column_step;
    }
    for (std::int64_t d = 0; d < layout.head_dim; d += layout.fp8 ? 4 : 2)
      for (std::int64_t w = 0; w < 16; w += n, part += 4 * n) {
        const Word first = column(d), second = column(d + 1);
        if (layout.fp8) {
          const Word lane = hn::LoadU(du, of_lane + w), next = hn::LoadU(du, of_next + w);
          emit(part, hn::Add(lane, first), hn::Add(lane, second), hn::Add(next, first),
               hn::Add(next, second));
        } else {
          const Word row = hn::LoadU(du, rows + group + w);
          emit(part, hn::Add(row, first), hn::Add(row, second));
        }
      }
  }
}

void FillV(const KvLayout& layout, const std::uint32_t* rows, std::byte* part) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(du));
  const PairsOfWord pairs;
  for (std::int64_t group = 0; group < layout.padded_tokens; group += layout.granule)
    for (std::int64_t tile = 0; tile < layout.v_dim; tile += 16)
      for (std::int64_t t = group; t < group + layout.granule; t += layout.fp8 ? 4 : 2)
        for (std::int64_t w = 0; w < 16; w += n, part += 4 * n) {
          const std::uint32_t* const row = rows + t;
          if (layout.fp8) {
            // By the pairs of four words.
            alignas(16) const std::uint32_t first[4] = {row[0], row[0], row[2], row[2]};
            alignas(16) const std::uint32_t second[4] = {row[1], row[1], row[3], row[3]};
            const Word a = hn::LoadDup128(du, first), b = hn::LoadDup128(du, second);
            const Word lane =
                hn::Add(hn::Mul(hn::LoadU(du, pairs.lane + w), hn::Set(du, column_step)), column(tile));
            const Word next = hn::Add(lane, column(1));
            emit(part, hn::Add(a, lane), hn::Add(b, lane), hn::Add(a, next), hn::Add(b, next));
          } else {
            const Word lanes = columns(tile + w, 1);
            emit(part, hn::Add(hn::Set(du, row[0]), lanes), hn::Add(hn::Set(du, row[1]), lanes));
          }
        }
}

void FillMla(const KvLayout& layout, const std::uint32_t* rows, std::byte* page) {
  const auto n = static_cast<std::int64_t>(hn::Lanes(du));
  const std::int64_t width = layout.fp8 ? 64 : 32;
  for (std::int64_t group = 0; group < layout.padded_tokens; group += 16)
    for (std::int64_t tile = 0; tile < layout.head_dim; tile += width) {
      const std::int64_t row_width = std::min(width, layout.head_dim - tile), half = row_width / 2;
      std::uint32_t first[16];  // column of a word's values
      for (std::int64_t w = 0; w < 16; ++w) {
        const std::int64_t d = layout.fp8 ? w / 4 * 8 + w / 2 % 2 * half + w % 2 * 4 : 2 * w;
        first[w] = static_cast<std::uint32_t>(tile + d) * column_step;
      }
      for (std::int64_t t = group; t < group + 16; ++t) {
        alignas(64) std::byte words[64];  // a row of 32 fp8 may not fill a vector
        for (std::int64_t w = 0; w < 16; w += n) {
          const Word row = hn::Add(hn::Set(du, rows[t]), hn::LoadU(du, first + w));
          const auto at = [&](std::int64_t i) HWY_ATTR { return hn::Add(row, column(i)); };
          if (layout.fp8) {
            emit(words + 4 * w, at(0), at(1), at(2), at(3));
          } else {
            emit(words + 4 * w, at(0), at(1));
          }
        }
        const std::size_t bytes = static_cast<std::size_t>(row_width) * layout.value_bytes;
        std::memcpy(page, words, bytes);
        page += bytes;
      }
    }
}

}  // namespace helix::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace helix::cpu {
namespace {

HWY_EXPORT(FillK);
HWY_EXPORT(FillV);
HWY_EXPORT(FillMla);

struct HistoryFill {
  const KvView& cache;
  const HistorySlice& history;
  KvLayout layout;

  std::uint64_t key(Tensor tensor, std::int64_t request, std::int64_t head) const {
    const std::int64_t global_head = layout.mla ? 0 : history.first_kv_head + head;
    const std::int64_t row_set = (history.first_request + request) * history.global_kv_heads + global_head;
    return synthetic::tensor_key(history.seed, static_cast<std::uint32_t>(tensor),
                                 static_cast<std::uint32_t>(history.layer),
                                 static_cast<std::uint32_t>(row_set));
  }

  void page(std::int64_t request, std::int64_t index, std::uint32_t* rows) const {
    const std::int64_t first = history.first_position + index * layout.page_tokens;
    const auto fill_rows = [&](std::uint64_t tensor) {
      for (std::int64_t t = 0; t < layout.page_tokens; ++t) rows[t] = synthetic::row_key(tensor, first + t);
    };
    for (std::int64_t h = 0; h < layout.kv_heads; ++h) {
      std::byte* const part = head_of_page(cache, layout, request, index, h);
      fill_rows(key(history.keys, request, h));
      if (layout.mla) {
        HWY_DYNAMIC_DISPATCH(FillMla)(layout, rows, part);
        continue;
      }
      HWY_DYNAMIC_DISPATCH(FillK)(layout, rows, part);
      fill_rows(key(Tensor::history_v, request, h));
      HWY_DYNAMIC_DISPATCH(FillV)(layout, rows, part + layout.k_bytes);
    }
  }

  /// Worker `worker` of `workers` writes a contiguous part of all pages.
  void part(int worker, int workers) const {
    std::vector<std::uint32_t> rows(static_cast<std::size_t>(layout.padded_tokens));
    const std::int64_t pages = layout.pages(history.tokens);
    const std::int64_t total = pages * history.requests;
    for (std::int64_t i = total * worker / workers; i < total * (worker + 1) / workers; ++i)
      page(i / pages, i % pages, rows.data());
  }
};

}  // namespace

void kv_fill_history(const KvView& cache, const HistorySlice& history, int threads) {
  best_isa();  // sets what Highway dispatches to
  const HistoryFill fill{cache, history, KvLayout(cache.shape)};
  if (threads == 1) {
    fill.part(0, 1);
    return;
  }
#pragma omp parallel num_threads(threads)
  fill.part(omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace helix::cpu
#endif
