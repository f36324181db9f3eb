// The tensor core operations of the emulation against the tables of the PTX ISA manual, written here from its
// formulas and not from the emulation's code: "Matrix Fragments for mma.m16n8k16" and "Warp-level matrix load
// instruction: ldmatrix". For lane l: groupID = l >> 2, threadID_in_group = l % 4.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/cuda/device/device.cuh"
#include "kernels/ops/fp8.hpp"
#include "simt/every_order.hpp"

namespace helix::cuda {
namespace {

struct Place {
  int row, col;
};

// A (16 x 16, .bf16), elements a0 to a7, two to a register:
//   row = groupID          for ai with 0 <= i < 2 || 4 <= i < 6,   groupID + 8 otherwise
//   col = threadID_in_group * 2 + (i & 1)  for ai with i < 4,      + 8 for i >= 4
Place place_a(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group : group + 8, thread * 2 + (i & 1) + (i < 4 ? 0 : 8)};
}
// B (16 x 8), elements b0 to b3:
//   row = threadID_in_group * 2 + (i & 1)  for bi with i < 2,      + 8 for i >= 2;   col = groupID
Place place_b(int lane, int i) {
  return {lane % 4 * 2 + (i & 1) + (i < 2 ? 0 : 8), lane >> 2};
}
// C and D (16 x 8), elements c0 to c3:
//   row = groupID for ci with i < 2, groupID + 8 for i >= 2;       col = threadID_in_group * 2 + (i & 1)
Place place_c(int lane, int i) {
  return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)};
}

template <bool f16>
HELIX_KERNEL void multiply(Global<const Vec<unsigned, 4>> a, Global<const Vec<unsigned, 2>> b,
                           Global<const Vec<float, 4>> c, Global<Vec<float, 4>> d) {
  Vec<float, 4> sum = c[lane_index()];
  if constexpr (f16) {
    mma_f16(sum, a[lane_index()], b[lane_index()]);
  } else {
    mma_bf16(sum, a[lane_index()], b[lane_index()]);
  }
  d[lane_index()] = sum;
}

TEMPLATE_TEST_CASE_SIG("fragments: mma m16n8k16 is a matrix product by the manual's tables", "",
                       ((bool f16), f16), false, true) {
  // Small whole numbers: every order of additions is exact.
  std::mt19937 random(3);
  const auto whole = [&] { return static_cast<float>(static_cast<int>(random() % 17) - 8); };
  float a[16][16], b[16][8], c[16][8];
  for (auto& row : a)
    for (float& x : row) x = whole();
  for (auto& row : b)
    for (float& x : row) x = whole();
  for (auto& row : c)
    for (float& x : row) x = whole();
  const auto pack = [](float low, float high) {
    return f16 ? pack_f16(low, high) : to_bf16(low).bits | static_cast<unsigned>(to_bf16(high).bits) << 16;
  };
  std::vector<Vec<unsigned, 4>> a_registers(32);
  std::vector<Vec<unsigned, 2>> b_registers(32);
  std::vector<Vec<float, 4>> c_registers(32);
  const auto at_a = [&](Place p) { return a[p.row][p.col]; };
  const auto at_b = [&](Place p) { return b[p.row][p.col]; };
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 4; ++r) {
      a_registers[lane][r] = pack(at_a(place_a(lane, 2 * r)), at_a(place_a(lane, 2 * r + 1)));
      c_registers[lane][r] = c[place_c(lane, r).row][place_c(lane, r).col];
    }
    for (int r = 0; r < 2; ++r)
      b_registers[lane][r] = pack(at_b(place_b(lane, 2 * r)), at_b(place_b(lane, 2 * r + 1)));
  }
  const simt::DeviceArray<Vec<unsigned, 4>> device_a(a_registers);
  const simt::DeviceArray<Vec<unsigned, 2>> device_b(b_registers);
  const simt::DeviceArray<Vec<float, 4>> device_c(c_registers), d(32);
  simt::in_every_order([&] {
    launch(multiply<f16>, 1, 32, 0, Stream{}, device_a.data(), device_b.data(), device_c.data(), d.data());
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const Place p = place_c(lane, i);
        float exact = c[p.row][p.col];
        for (int k = 0; k < 16; ++k) exact += a[p.row][k] * b[k][p.col];
        REQUIRE(d[lane][i] == exact);
      }
  });
}

// f16 by its definition: a sign, 5 bits of exponent with a bias of 15, 10 of fraction.
float value_of_f16(unsigned bits) {
  const int exponent = static_cast<int>(bits >> 10 & 31u);
  const float fraction = static_cast<float>(bits & 1023u) / 1024.0f;
  const float size = exponent == 31  ? (fraction == 0.0f ? INFINITY : NAN)
                     : exponent == 0 ? std::ldexp(fraction, -14)
                                     : std::ldexp(1.0f + fraction, exponent - 15);
  return (bits & 0x8000u) != 0 ? -size : size;
}

TEST_CASE("fragments: e4m3 becomes f16 exactly, and floats become the nearest") {
  for (unsigned code = 0; code < 256; ++code) {
    const float exact = to_float(FP8{static_cast<std::uint8_t>(code)});
    const unsigned pair = e4m3_to_f16(code | (255u - code) << 8 | 0xabcd0000u);
    const float low = value_of_f16(pair & 0xffffu);
    CAPTURE(code);
    REQUIRE((std::isnan(exact) ? std::isnan(low) : low == exact));
    const float other = to_float(FP8{static_cast<std::uint8_t>(255u - code)}),
                high = value_of_f16(pair >> 16);
    REQUIRE((std::isnan(other) ? std::isnan(high) : high == other));
  }
  for (unsigned bits = 0; bits < 0x7bffu; ++bits) {
    const float x = value_of_f16(bits), next = value_of_f16(bits + 1);
    const float nearer = 0.75f * x + 0.25f * next;
    REQUIRE(pack_f16(x, nearer) == (bits | bits << 16));
    REQUIRE(pack_f16(-x, -next) == ((bits | (bits + 1) << 16) | 0x80008000u));
  }
}

template <bool Transposed>
HELIX_KERNEL void load(Global<const std::uint16_t> in, Global<Vec<unsigned, 4>> out) {
  const auto tile = shared_memory<std::uint16_t>();
  for (int i = lane_index(); i < 256; i += kWarp) tile[2 * i] = in[2 * i];
  warp_sync();
  for (int i = lane_index(); i < 256; i += kWarp) tile[2 * i + 1] = in[2 * i + 1];
  warp_sync();
  // Rows of one matrix need not be neighbours: lane i's row is number 5 i mod 32.
  const auto row = tile + lane_index() * 5 % 32 * 16;
  out[lane_index()] = Transposed ? ldmatrix_x4_trans(row) : ldmatrix_x4(row);
}

// Threads 8 i to 8 i + 7 hold the addresses of matrix i's rows. Each thread receives of register i a fragment
// of a row of matrix i: thread l elements 2 (l % 4) and the next of row l / 4; with .trans, of a column.
TEST_CASE("fragments: ldmatrix") {
  std::vector<std::uint16_t> values(512);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint16_t>(i * 40503u);
  const simt::DeviceArray<std::uint16_t> in(values);
  const simt::DeviceArray<Vec<unsigned, 4>> plain(32), transposed(32);
  launch(load<false>, 1, 32, 1024, Stream{}, in.data(), plain.data());
  launch(load<true>, 1, 32, 1024, Stream{}, in.data(), transposed.data());
  const auto element = [&](int matrix, int row, int col) -> unsigned {
    return values[(matrix * 8 + row) * 5 % 32 * 16 + col];
  };
  for (int lane = 0; lane < 32; ++lane)
    for (int m = 0; m < 4; ++m) {
      const int r = lane / 4, c = lane % 4 * 2;
      REQUIRE(plain[lane][m] == (element(m, r, c) | element(m, r, c + 1) << 16));
      REQUIRE(transposed[lane][m] == (element(m, c, r) | element(m, c + 1, r) << 16));
    }
}

HELIX_KERNEL void transpose(Global<const unsigned> in, Global<unsigned> out) {
  out[lane_index()] = movmatrix_trans(in[lane_index()]);
}

// movmatrix: "each thread holds a fragment of a row", thread l elements 2 (l % 4) and the next of row l / 4.
TEST_CASE("fragments: movmatrix") {
  std::vector<unsigned> values;
  for (unsigned lane = 0; lane < 32; ++lane) values.push_back((lane * 2 + 1) << 16 | (lane * 2));
  const simt::DeviceArray<unsigned> in(values), out(32);
  launch(transpose, 1, 32, 0, Stream{}, in.data(), out.data());
  for (unsigned lane = 0; lane < 32; ++lane) {
    // Element (row, col) of the source is 8 row + col.
    const unsigned row = lane / 4, col = lane % 4 * 2;
    REQUIRE(out[lane] == ((8 * (col + 1) + row) << 16 | (8 * col + row)));
  }
}

HELIX_KERNEL void arithmetic(Global<const float> x, Global<unsigned> out) {
  const float a = x[0], b = x[1], c = x[2], d = x[3];
  out[0] = pack_bf16(a, b);
  out[1] = fma_bf16x2(pack_bf16(a, b), pack_bf16(c, d), 0x80008000u);
}

TEST_CASE("fragments: pairs of bf16") {
  const simt::DeviceArray<float> x(std::vector<float>{1.0f, -2.5f, 0x1p120f, -0x1p-140f});
  const simt::DeviceArray<unsigned> out(2);
  launch(arithmetic, 1, 32, 0, Stream{}, x.data(), out.data());
  REQUIRE(out[0] == 0xc0203f80u);
  REQUIRE((out[1] & 0xffffu) == to_bf16(0x1p120f).bits);
  REQUIRE(out[1] >> 16 == 0x0000u);  // -2.5 * the 0 that 2^-140 is in bf16 (negative)
}

HELIX_KERNEL void permute(Global<unsigned> out) {
  out[0] = byte_permute(0x33221100u, 0x77665544u, 0x7250u);
}

// __byte_perm: "returns a 32-bit integer consisting of four bytes from eight input bytes provided in the two
// input integers x and y, as specified by a selector s".
TEST_CASE("fragments: byte_permute") {
  const simt::DeviceArray<unsigned> out(1);
  launch(permute, 1, 32, 0, Stream{}, out.data());
  REQUIRE(out[0] == 0x77225500u);
}

}  // namespace
}  // namespace helix::cuda
