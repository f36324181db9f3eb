// Packing and merging of partial results on the emulated GPU against fp64.
#include "kernels/cuda/partials.cuh"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/bf16.hpp"
#include "simt/every_order.hpp"

namespace helix::cuda {
namespace {

constexpr float empty = -std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

/// What each of `parts` ranks knows of all heads: o [batch, heads, v_dim], lse [batch, heads].
struct Partials {
  PartialShape shape;
  std::vector<std::vector<BF16>> o;
  std::vector<std::vector<float>> lse;

  explicit Partials(const PartialShape& s, float lse_scale) : shape(s) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    for (std::int64_t p = 0; p < s.parts; ++p) {
      lse.emplace_back();
      o.emplace_back();
      for (std::int64_t i = 0; i < s.batch * s.heads; ++i) lse.back().push_back(lse_scale * uniform(random));
      for (std::int64_t i = 0; i < s.batch * s.heads * s.v_dim; ++i)
        o.back().push_back(to_bf16(uniform(random)));
    }
  }
  /// A rank without tokens for this row leaves o as it was.
  void clear(std::int64_t part, std::int64_t row) {
    lse[part][row] = empty;
    for (std::int64_t d = 0; d < shape.v_dim; ++d) o[part][row * shape.v_dim + d] = to_bf16(nan_value);
  }
  /// As they arrive at the rank that merges.
  std::vector<std::byte> packed() const {
    std::vector<std::byte> bytes(shape.chunk_bytes() * static_cast<std::size_t>(shape.parts),
                                 std::byte{0xff});
    for (std::int64_t p = 0; p < shape.parts; ++p) {
      std::byte* const chunk = bytes.data() + static_cast<std::size_t>(p) * shape.chunk_bytes();
      std::memcpy(chunk, o[p].data(), o[p].size() * sizeof(BF16));
      std::memcpy(chunk + shape.lse_offset(), lse[p].data(), lse[p].size() * sizeof(float));
    }
    return bytes;
  }
};

std::vector<BF16> merge(const Partials& partials) {
  const simt::DeviceArray<std::byte> packed(partials.packed(), "packed");
  const PartialShape& s = partials.shape;
  const simt::DeviceArray<BF16> out(static_cast<std::size_t>(s.batch * s.heads * s.v_dim), "out");
  merge_partials(Stream{}, s, packed.data(), out.data());
  return {out.span().begin(), out.span().end()};
}

void check_merge(const Partials& partials) {
  const PartialShape& s = partials.shape;
  const std::vector<BF16> out = merge(partials);
  for (std::int64_t row = 0; row < s.batch * s.heads; ++row)
    for (std::int64_t d = 0; d < s.v_dim; ++d) {
      double max = empty, sum = 0.0, total = 0.0;
      for (std::int64_t p = 0; p < s.parts; ++p) max = std::max<double>(max, partials.lse[p][row]);
      for (std::int64_t p = 0; p < s.parts; ++p) {
        if (partials.lse[p][row] == empty) continue;
        const double weight = std::exp(partials.lse[p][row] - max);
        total += weight;
        sum += weight * to_float(partials.o[p][row * s.v_dim + d]);
      }
      const double exact = max == empty ? 0.0 : sum / total;
      // One rounding to bf16; weights within 1e-5 of exact ones for the LSE used here, values below 1.
      INFO("row " << row << " dim " << d);
      REQUIRE(std::fabs(to_float(out[row * s.v_dim + d]) - exact) <= std::fabs(exact) / 256 + 1e-4);
    }
}

TEST_CASE("partials: merged exactly, in every order") {
  simt::in_every_order([] {
    for (const PartialShape& s :
         {PartialShape{1, 1, 1, 64}, PartialShape{2, 3, 5, 128}, PartialShape{7, 2, 3, 512}})
      for (float lse_scale : {0.0f, 3.0f, 80.0f}) check_merge(Partials(s, lse_scale));
  });
}

TEST_CASE("partials: shards without tokens hold NaN and count nothing") {
  Partials partials({4, 2, 3, 64}, 2.0f);
  partials.clear(0, 0);
  partials.clear(3, 0);
  partials.clear(1, 4);
  for (std::int64_t p = 0; p < 4; ++p) partials.clear(p, 2);
  check_merge(partials);
}

TEST_CASE("partials: a NaN is not hidden") {
  Partials partials({2, 1, 1, 64}, 2.0f);
  partials.lse[1][0] = nan_value;
  for (BF16 x : merge(partials)) REQUIRE(std::isnan(to_float(x)));
}

TEST_CASE("partials: one chunk for each peer, empty rows not read") {
  const PartialShape s{3, 2, 5, 64};
  const std::int64_t heads = s.parts * s.heads;
  const Partials all({1, s.batch, heads, s.v_dim}, 2.0f);
  std::vector<float> lse = all.lse[0];
  lse[17] = empty;
  const simt::DeviceArray<BF16> o(all.o[0].size(), "o");  // row 17 stays unwritten
  const simt::DeviceArray<float> device_lse(lse, "lse");
  simt::DeviceArray<std::byte> packed(s.chunk_bytes() * static_cast<std::size_t>(s.parts), "packed");
  for (std::size_t i = 0; i < all.o[0].size(); ++i)
    if (i / 64 != 17) o.write(i, all.o[0][i]);
  pack_partials(Stream{}, s, o.data(), device_lse.data(), packed.data());
  for (std::int64_t p = 0; p < s.parts; ++p)
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t h = 0; h < s.heads; ++h) {
        const std::byte* const chunk = packed.data() + static_cast<std::size_t>(p) * s.chunk_bytes();
        const std::int64_t from = b * heads + p * s.heads + h, to = b * s.heads + h;
        float got_lse;
        std::memcpy(&got_lse, chunk + s.lse_offset() + static_cast<std::size_t>(to) * 4, 4);
        REQUIRE(got_lse == lse[from]);
        if (from != 17) REQUIRE(std::memcmp(chunk + to * 128, &all.o[0][from * 64], 128) == 0);
      }
}

}  // namespace
}  // namespace helix::cuda
