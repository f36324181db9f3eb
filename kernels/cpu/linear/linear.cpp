#include "kernels/cpu/linear/linear.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/cpu/linear/linear_kernels.hpp"
#include "kernels/cpu/linear/linear_rows.hpp"
#include "kernels/cpu/machine/isa.hpp"
#include "kernels/cpu/machine/parallel.hpp"
#include "kernels/ops/out_of_memory.hpp"
#include "roofline/base/error.hpp"

namespace helix::cpu {
namespace {

// The calling thread's buffer for packed activations; its workers write and read it too.
class PackingBuffer {
 public:
  void* at_least(std::size_t bytes) {
    if (bytes > capacity_) {
      const std::size_t rounded = (bytes + 4095) / 4096 * 4096;
      memory_.reset(std::aligned_alloc(4096, rounded));
      if (!memory_) throw OutOfMemory(rounded);
      capacity_ = rounded;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t capacity_ = 0;
};
thread_local PackingBuffer packing_buffer;

inline void copy(const BF16* from, std::int64_t count, BF16* to) {
  std::copy_n(from, count, to);
}
inline void copy(const BF16* from, std::int64_t count, float* to) {
  std::transform(from, from + count, to, [](BF16 v) { return to_float(v); });
}

// Row `row` of packed.m (or padding after it) in the layout of PackedRows.
template <class T>
void pack_row(const PackedRows& packed, const Rows& rows, std::int64_t k, std::int64_t row) {
  constexpr std::int64_t width = packing::block_inputs;
  auto* out =
      const_cast<T*>(packed.tile<T>(row / PackedRows::tile_rows, 0)) + row % PackedRows::tile_rows * width;
  const std::int64_t step = packed.row_stride() * width;
  std::int64_t valid = row < rows.m ? k : 0;
  const BF16* x = valid > 0 ? rows.row(row) : nullptr;
  for (std::int64_t block = 0; block < packed.blocks; ++block, valid -= width, out += step) {
    if (valid >= width) {
      copy(x + block * width, width, out);
      continue;
    }
    std::fill_n(out, width, T{});
    if (valid > 0) copy(x + block * width, valid, out);
  }
}

// W's matrices `w` applied to `rows` moved along by x_step per matrix; y likewise.
template <class Out>
void products(const Rows& rows, std::int64_t x_step, const PackedWeight& w, Out* y, std::int64_t ldy,
              std::int64_t y_step, int threads) {
  const Isa isa = best_isa();
  const bool as_float = isa <= Isa::avx2;
  PackedRows layout{nullptr, rows.m, packing::blocks(w.k)};
  const std::size_t bytes_each =
      static_cast<std::size_t>(layout.values()) * (as_float ? sizeof(float) : sizeof(BF16));
  auto* buffer =
      static_cast<std::byte*>(packing_buffer.at_least(bytes_each * static_cast<std::size_t>(w.count)));
  const auto packed = [&](std::int64_t matrix) {
    return PackedRows{buffer + static_cast<std::size_t>(matrix) * bytes_each, layout.m, layout.blocks};
  };

  const std::int64_t padded_rows = layout.row_tiles() * layout.row_stride();
  constexpr std::size_t worth_a_team = 64 * 1024;  // bytes that one thread packs as fast as a team assembles
  in_parallel(bytes_each * static_cast<std::size_t>(w.count) > worth_a_team ? threads : 1,
              [&](int thread, int team) {
                const Range mine = split(w.count * padded_rows, thread, team);
                for (std::int64_t i = mine.begin; i < mine.end; ++i) {
                  const std::int64_t matrix = i / padded_rows, row = i % padded_rows;
                  Rows moved = rows;
                  moved.x += matrix * x_step;
                  as_float ? pack_row<float>(packed(matrix), moved, w.k, row)
                           : pack_row<BF16>(packed(matrix), moved, w.k, row);
                }
              });

  in_parallel(threads, [&](int thread, int team) {
    const std::int64_t panels = packing::panels(w.n);
    const Range mine = split(w.count * panels, thread, team);
    for (std::int64_t i = mine.begin; i < mine.end;) {
      const std::int64_t matrix = i / panels, panel = i % panels;
      const std::int64_t end = std::min(panels, panel + mine.end - i);
      const std::int64_t n0 = panel * packing::panel_outputs;
      const PanelProduct<Out> product{packed(matrix),
                                      w.data + static_cast<std::size_t>(matrix) * w.stride_bytes +
                                          panel * packing::panel_bytes(w.k, w.dtype),
                                      w.dtype,
                                      std::min(w.n, end * packing::panel_outputs) - n0,
                                      y + matrix * y_step + n0,
                                      ldy,
                                      w.scale};
      switch (isa) {
#if HELIX_HAVE_AMX
        case Isa::amx:
          product_amx(product);
          break;
#endif
#if defined(__x86_64__)
        case Isa::avx512:
        case Isa::avx512_bf16:
          product_avx512(product);
          break;
#endif
        default:
          product_highway(product);
      }
      i += end - panel;
    }
  });
}

PackedWeight first_of(PackedWeight w) {
  w.count = 1;
  return w;
}

}  // namespace

std::size_t packed_bytes(std::int64_t n, std::int64_t k, DType dtype) {
  if (dtype != DType::bf16 && dtype != DType::fp8)
    throw UsageError("CPU weights can be bf16 or fp8, not " + std::string(helix::name(dtype)));
  return static_cast<std::size_t>(packing::panels(n) * packing::panel_bytes(k, dtype));
}

void linear_rows(const Rows& rows, const PackedWeight& w, BF16* y, std::int64_t ldy, int threads) {
  products(rows, 0, first_of(w), y, ldy, 0, threads);
}

void linear_rows(const Rows& rows, const PackedWeight& w, float* y, std::int64_t ldy, int threads) {
  products(rows, 0, first_of(w), y, ldy, 0, threads);
}

void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y, std::int64_t ldy,
            int threads) {
  linear_rows({x, ldx, nullptr, m}, w, y, ldy, threads);
}

void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
            std::int64_t ldy, int threads) {
  linear_rows({x, ldx, nullptr, m}, w, y, ldy, threads);
}

void linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w, HeadRows<BF16> y,
                     int threads) {
  products({x.data, x.row_stride, nullptr, batch}, x.head_stride, w, y.data, y.row_stride, y.head_stride,
           threads);
}

std::string linear_kernel_path() {
  switch (best_isa()) {
    case Isa::amx:
      return "amx-bf16";
    case Isa::avx512:
    case Isa::avx512_bf16:
      return "avx512-bf16";
    default:
      return highway_target_name();
  }
}

}  // namespace helix::cpu
