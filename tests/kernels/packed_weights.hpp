// Packed synthetic weights, and the values that they hold by the scalar definition.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/cpu/isa.hpp"
#include "kernels/cpu/linear.hpp"
#include "kernels/fp8.hpp"
#include "kernels/synthetic.hpp"

namespace helix::testing {

/// Runs the rest of the scope with at most this instruction set.
class IsaScope {
 public:
  explicit IsaScope(Isa isa) { set_isa_cap(isa); }
  ~IsaScope() { set_isa_cap(Isa::amx); }
  IsaScope(const IsaScope&) = delete;
  IsaScope& operator=(const IsaScope&) = delete;
};

/// The value at (row, col) of a slice as fill_weight defines it.
inline double slice_value(const WeightSlice& s, std::int64_t row, std::int64_t col, DType dtype) {
  const float v = s.scale * synthetic::unit_value(synthetic::row_key(s.key, s.row0 + row),
                                                  static_cast<std::uint32_t>(s.col0 + col));
  return static_cast<double>(dtype == DType::fp8 ? synthetic::stored_fp8(v) : synthetic::stored_bf16(v));
}

/// `count` matrices [n, k], each of one slice with a key of its own, in memory that starts on a cache line.
class SyntheticWeights {
 public:
  SyntheticWeights(std::int64_t n, std::int64_t k, std::int64_t count, DType dtype, std::uint64_t key) {
    const std::size_t bytes = cpu::packed_bytes(n, k, dtype);
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes * static_cast<std::size_t>(count))));
    packed_ = {memory_.get(), n, k, count, bytes, dtype};
    for (std::int64_t i = 0; i < count; ++i) {
      slices_.push_back({key + static_cast<std::uint64_t>(i), 5, 7, n, k, synthetic::weight_scale(k)});
      cpu::fill_weight(packed_, i, {&slices_.back(), 1}, 1);
    }
  }

  const PackedWeight& packed() const { return packed_; }

  /// Matrix `index` as [n, k].
  std::vector<double> values(std::int64_t index) const {
    std::vector<double> w;
    for (std::int64_t row = 0; row < packed_.n; ++row)
      for (std::int64_t col = 0; col < packed_.k; ++col)
        w.push_back(slice_value(slices_[static_cast<std::size_t>(index)], row, col, packed_.dtype));
    return w;
  }

  /// Overwrites matrix `index` with bytes that are NaN in bf16 and in fp8.
  void poison(std::int64_t index) {
    std::fill_n(packed_.data + static_cast<std::size_t>(index) * packed_.stride_bytes, packed_.stride_bytes,
                std::byte{0xff});
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  PackedWeight packed_;
  std::vector<WeightSlice> slices_;
};

}  // namespace helix::testing
