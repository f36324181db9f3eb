// The emulation itself: it runs correct kernels in every order, and each kind of fault, planted, is reported.
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "kernels/cuda/device/device.cuh"
#include "simt/every_order.hpp"
#include "simt/fault.hpp"

namespace helix::cuda {
namespace {

using Catch::Contains;
using simt::DeviceArray;
using simt::Fault;

/// Reverses the block's numbers through shared memory.
template <bool Barrier>
HELIX_KERNEL void reverse(Global<const int> in, Global<int> out) {
  const int t = static_cast<int>(threadIdx.x), n = static_cast<int>(blockDim.x);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * n;
  const auto tile = shared_memory<int>();
  tile[t] = in[first + t];
  if (Barrier) block_sync();
  out[first + t] = tile[n - 1 - t];
}

std::vector<int> counted(int n) {
  std::vector<int> v;
  for (int i = 0; i < n; ++i) v.push_back(i);
  return v;
}

TEST_CASE("simt: a kernel with its barriers, in every order") {
  simt::in_every_order([] {
    const DeviceArray<int> in(counted(192)), out(192);
    launch(reverse<true>, 2, 96, 96 * sizeof(int), Stream{}, in.data(), out.data());
    for (int i = 0; i < 192; ++i) REQUIRE(out[i] == i / 96 * 96 + 95 - i % 96);
  });
}

/// Not launched anywhere else.
HELIX_KERNEL void new_kernel(Global<int> out) {
  out[0] = 1;
}

TEST_CASE("simt: the first use of a kernel in a capture") {
  const DeviceArray<int> out(1);
  const auto use = [&] { launch(new_kernel, 1, 32, 0, Stream{}, out.data()); };
  simt::Operations captured;
  const auto capture = [&] {
    const struct End {
      ~End() { simt::capture = nullptr; }
    } end;
    simt::capture = &captured;
    use();
  };
  REQUIRE_THROWS_WITH(capture(), Contains("never run before"));
  use();
  REQUIRE_NOTHROW(capture());
  REQUIRE(captured.size() == 1);
}

TEST_CASE("simt: a missing barrier, whatever the order") {
  simt::in_every_order([] {
    const DeviceArray<int> in(counted(96)), out(96);
    REQUIRE_THROWS_WITH(launch(reverse<false>, 1, 96, 96 * sizeof(int), Stream{}, in.data(), out.data()),
                        Contains("race"));
  });
}

/// Within a warp: lockstep is no barrier.
template <bool Barrier>
HELIX_KERNEL void rotate(Global<int> out) {
  const auto tile = shared_memory<int>();
  tile[lane_index()] = lane_index();
  if (Barrier) warp_sync();
  out[threadIdx.x] = tile[(lane_index() + 1) % kWarp];
}

TEST_CASE("simt: a missing warp barrier") {
  const DeviceArray<int> out(32);
  launch(rotate<true>, 1, 32, 128, Stream{}, out.data());
  REQUIRE(out[31] == 0);
  REQUIRE_THROWS_WITH(launch(rotate<false>, 1, 32, 128, Stream{}, out.data()), Contains("race"));
}

/// Each lane names the row that it wrote itself, but others receive it.
template <bool Barrier>
HELIX_KERNEL void exchange(Global<unsigned> out) {
  const auto tile = shared_memory<Vec<unsigned, 4>>();
  tile[lane_index()] = Vec<unsigned, 4>{1, 2, 3, 4};
  if (Barrier) warp_sync();
  out[lane_index()] = ldmatrix_x4(tile + lane_index())[0];
}

TEST_CASE("simt: a missing warp barrier before ldmatrix") {
  const DeviceArray<unsigned> out(32);
  launch(exchange<true>, 1, 32, 512, Stream{}, out.data());
  for (unsigned lane = 0; lane < 32; ++lane) REQUIRE(out[lane] == lane % 4 + 1);
  REQUIRE_THROWS_WITH(launch(exchange<false>, 1, 32, 512, Stream{}, out.data()), Contains("race"));
}

/// A tile that the next round overwrites while others still read it, unless there is a second barrier.
template <bool Barrier>
HELIX_KERNEL void rounds(Global<int> out) {
  const auto tile = shared_memory<int>();
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    if (threadIdx.x == 40) tile[0] = round;
    block_sync();
    sum += tile[0];
    if (Barrier) block_sync();
  }
  out[threadIdx.x] = sum;
}

TEST_CASE("simt: a write that overtakes readers") {
  simt::in_every_order([] {
    const DeviceArray<int> out(64);
    launch(rounds<true>, 1, 64, 4, Stream{}, out.data());
    REQUIRE(out[63] == 3);
    REQUIRE_THROWS_WITH(launch(rounds<false>, 1, 64, 4, Stream{}, out.data()), Contains("race"));
  });
}

HELIX_KERNEL void half_a_barrier() {
  if (threadIdx.x < 32) block_sync();
}
HELIX_KERNEL void two_barriers() {
  if (threadIdx.x < 32) {
    block_sync();
  } else {
    block_sync();
  }
}
HELIX_KERNEL void half_a_shuffle(Global<int> out) {
  if (threadIdx.x < 16) out[threadIdx.x] = shuffle_xor(1, 1);
}

TEST_CASE("simt: divergent barriers and collectives") {
  simt::in_every_order([] {
    const DeviceArray<int> out(64);
    REQUIRE_THROWS_WITH(launch(half_a_barrier, 1, 64, 0, Stream{}), Contains("divergent"));
    REQUIRE_THROWS_WITH(launch(two_barriers, 1, 64, 0, Stream{}), Contains("divergent barriers"));
    REQUIRE_THROWS_WITH(launch(half_a_shuffle, 1, 64, 0, Stream{}, out.data()), Contains("divergent"));
  });
}

template <int InFlight, bool Barrier>
HELIX_KERNEL void copy_through(Global<const float> in, Global<float> out) {
  const int t = static_cast<int>(threadIdx.x);
  const auto tile = shared_memory<float>();
  cp_async_16(tile + 4 * t, in + 4 * t, t == 31 ? 8 : 16);
  cp_async_commit();
  cp_async_wait<InFlight>();
  if (Barrier) warp_sync();
  for (int i = t; i < 128; i += kWarp) out[i] = tile[i];
}

TEST_CASE("simt: asynchronous copies arrive when they are waited for") {
  const DeviceArray<float> in(std::vector<float>(128, 1.0f)), out(128);
  const auto run = [&](auto* kernel) { launch(kernel, 1, 32, 512, Stream{}, in.data(), out.data()); };
  run(copy_through<0, true>);
  for (int i = 0; i < 128; ++i) REQUIRE(out[i] == (i < 126 ? 1.0f : 0.0f));
  REQUIRE_THROWS_WITH(run(copy_through<1, true>), Contains("in flight"));
  REQUIRE_THROWS_WITH(run(copy_through<0, false>), Contains("in flight") || Contains("race"));
}

HELIX_KERNEL void touch_shared(int offset) {
  shared_memory<int>()[offset] = 1;
}
HELIX_KERNEL void copy_first(Global<const int> in, Global<int> out, int from) {
  if (threadIdx.x == 0) out[0] = in[from];
}
HELIX_KERNEL void read_fresh_shared(Global<float> out) {
  out[threadIdx.x] = shared_memory<float>()[static_cast<int>(threadIdx.x)];
}

TEST_CASE("simt: accesses out of bounds") {
  for (int offset : {-1, 8, 1 << 20})
    REQUIRE_THROWS_WITH(launch(touch_shared, 1, 32, 32, Stream{}, offset),
                        Contains("shared memory") && Contains("out of bounds"));
  const DeviceArray<int> in(counted(4), "in"), out(1);
  launch(copy_first, 1, 32, 0, Stream{}, in.data(), out.data(), 3);
  REQUIRE(out[0] == 3);
  for (int from : {-1, 4, 1 << 28})
    REQUIRE_THROWS_WITH(launch(copy_first, 1, 32, 0, Stream{}, in.data(), out.data(), from),
                        Contains("global memory"));
}

TEST_CASE("simt: reading what another rank has not written") {
  const DeviceArray<int> inbox(4, "rank 1 inbox"), out(1);
  REQUIRE_THROWS_WITH(launch(copy_first, 1, 32, 0, Stream{}, inbox.data(), out.data(), 2),
                      Contains("rank 1 inbox") && Contains("nobody has written"));
}

TEST_CASE("simt: fresh shared memory is NaN in every block") {
  const DeviceArray<float> out(32);
  launch(read_fresh_shared, 2, 32, 128, Stream{}, out.data());
  for (int i = 0; i < 32; ++i) REQUIRE(std::isnan(out[i]));
}

}  // namespace
}  // namespace helix::cuda
