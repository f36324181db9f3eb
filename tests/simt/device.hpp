// kernels/cuda/device/device.cuh on the host.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <tuple>
#include <type_traits>

#include "kernels/cuda/device/stream.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "simt/capture.hpp"
#include "simt/global_memory.hpp"
#include "simt/grid.hpp"

#define HELIX_KERNEL inline
#define HELIX_BOUNDS(threads, blocks_per_sm)
#define HELIX_DEVICE inline
#define HELIX_UNROLL

namespace helix::cuda {

using simt::Dim3;

using Site = std::source_location;

inline constexpr const Dim3& threadIdx = simt::thread_index;
inline constexpr const Dim3& blockIdx = simt::block_index;
inline constexpr const Dim3& blockDim = simt::block_dim;
inline constexpr const Dim3& gridDim = simt::grid_dim;

template <typename T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
  constexpr T& operator[](int i) { return v[i]; }
  constexpr const T& operator[](int i) const { return v[i]; }
};

// --- memory

/// What p[i] is: an element that is checked when read or written.
template <typename Pointer, typename T>
class Element {
 public:
  explicit Element(Pointer at) : at_(at) {}
  operator std::remove_const_t<T>() const { return at_.read(); }
  const Element& operator=(const T& x) const {
    at_.write(x);
    return *this;
  }
  const Element& operator=(const Element& other) const { return *this = other.at_.read(); }
  const Element& operator+=(const T& x) const { return *this = at_.read() + x; }
  const Element& operator*=(const T& x) const { return *this = at_.read() * x; }
  Element(const Element&) = default;

 private:
  Pointer at_;
};

template <typename T>
class Global {
 public:
  Global(T* p = nullptr) : p_(p) {}
  template <typename U>
  requires std::is_same_v<const U, T> Global(Global<U> p) : p_(p.get()) {}
  Element<Global, T> operator[](std::int64_t i) const { return Element<Global, T>(*this + i); }
  Global operator+(std::int64_t i) const {
    return {reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(p_) +
                                 static_cast<std::uintptr_t>(i) * sizeof(T))};
  }
  template <typename U>
  Global<U> as() const {
    return {reinterpret_cast<U*>(p_)};
  }
  T* get() const { return p_; }

  std::remove_const_t<T> read() const {
    simt::check_global_read(p_, sizeof(T), sizeof(T));
    std::remove_const_t<T> x;
    std::memcpy(&x, p_, sizeof x);
    return x;
  }
  void write(const T& x) const {
    simt::note_global_write(p_, sizeof(T), sizeof(T));
    std::memcpy(p_, &x, sizeof x);
  }

 private:
  T* p_;
};

template <typename T>
class Shared {
 public:
  explicit Shared(std::int64_t offset) : offset_(offset) {}
  template <typename U>
  requires std::is_same_v<const U, T> Shared(Shared<U> p) : offset_(p.offset()) {}
  Element<Shared, T> operator[](int i) const { return Element<Shared, T>(*this + i); }
  Shared operator+(int i) const { return Shared(offset_ + static_cast<std::int64_t>(sizeof(T)) * i); }
  template <typename U>
  Shared<U> as() const {
    return Shared<U>(offset_);
  }
  std::int64_t offset() const { return offset_; }

  std::remove_const_t<T> read() const {
    std::remove_const_t<T> x;
    std::memcpy(&x, simt::grid().shared().read(offset_, sizeof x, simt::grid().now()), sizeof x);
    return x;
  }
  void write(const T& x) const {
    std::memcpy(simt::grid().shared().write(offset_, sizeof x, simt::grid().now()), &x, sizeof x);
  }

 private:
  std::int64_t offset_;
};

template <typename T>
Shared<T> shared_memory(int byte_offset = 0) {
  return Shared<T>(byte_offset);
}

template <typename T>
T atomic_add(Global<T> to, std::type_identity_t<T> x) {
  const T old = to[0];
  to[0] = old + x;
  return old;
}
inline void fence() {}

// --- collectives

inline void block_sync(const Site& site = Site::current()) {
  simt::grid().block_barrier(site);
}
inline void warp_sync(const Site& site = Site::current()) {
  simt::grid().warp_barrier(site);
}

template <typename T>
struct FromLane {
  T value;
  int lane;
};
/// The value of the lane that each lane names; its own where there is no such lane.
template <typename T>
T take_from(T x, int lane, const Site& site) {
  static_assert(sizeof(T) == 4);
  return simt::grid().collective<T>(FromLane<T>{x, lane}, site, [](const auto& in, const auto& out) {
    for (int i = 0; i < simt::kLanes; ++i) {
      const int from = in[i]->lane;
      *out[i] = in[from >= 0 && from < simt::kLanes ? from : i]->value;
    }
  });
}
inline int this_lane() {
  return simt::grid().thread() % simt::kLanes;
}
template <typename T>
T shuffle_xor(T x, int mask, const Site& site = Site::current()) {
  return take_from(x, this_lane() ^ mask, site);
}
template <typename T>
T shuffle(T x, int lane, const Site& site = Site::current()) {
  return take_from(x, lane % simt::kLanes, site);
}
template <typename T>
T shuffle_down(T x, int delta, const Site& site = Site::current()) {
  return take_from(x, this_lane() + delta, site);
}
inline unsigned ballot(bool p, const Site& site = Site::current()) {
  return simt::grid().collective<unsigned>(p, site, [](const auto& in, const auto& out) {
    unsigned votes = 0;
    for (int i = 0; i < simt::kLanes; ++i) votes |= static_cast<unsigned>(*in[i]) << i;
    for (unsigned* lane : out) *lane = votes;
  });
}
inline bool any(bool p, const Site& site = Site::current()) {
  return ballot(p, site) != 0;
}
inline bool all(bool p, const Site& site = Site::current()) {
  return ballot(p, site) == 0xffffffffu;
}

// --- 8x8 matrices of 16-bit values: lane l holds row l / 4, columns 2 (l % 4) and the next, in one register

using Matrix8x8 = std::array<std::array<std::uint16_t, 8>, 8>;

inline unsigned fragment(const Matrix8x8& m, int lane, bool transposed) {
  const auto at = [&](int row, int column) -> unsigned {
    return transposed ? m[column][row] : m[row][column];
  };
  const int row = lane / 4, column = lane % 4 * 2;
  return at(row, column) | at(row, column + 1) << 16;
}

inline Vec<unsigned, 4> load_matrices(std::int64_t row, bool transposed, const Site& site) {
  // The lane names a row that other lanes receive: a read by two of them.
  simt::SharedMemory& shared = simt::grid().shared();
  simt::Moment now = simt::grid().now();
  std::array<std::uint16_t, 8> values;
  std::memcpy(values.data(), shared.read(row, sizeof values, now), sizeof values);
  now.thread = static_cast<std::int16_t>(now.thread ^ 1);
  shared.read(row, sizeof values, now);
  return simt::grid().collective<Vec<unsigned, 4>>(values, site, [&](const auto& in, const auto& out) {
    for (int i = 0; i < 4; ++i) {
      Matrix8x8 m;
      for (int r = 0; r < 8; ++r) m[r] = *in[i * 8 + r];
      for (int lane = 0; lane < simt::kLanes; ++lane) (*out[lane])[i] = fragment(m, lane, transposed);
    }
  });
}
template <typename T>
Vec<unsigned, 4> ldmatrix_x4(Shared<T> row, const Site& site = Site::current()) {
  return load_matrices(row.offset(), false, site);
}
template <typename T>
Vec<unsigned, 4> ldmatrix_x4_trans(Shared<T> row, const Site& site = Site::current()) {
  return load_matrices(row.offset(), true, site);
}
inline unsigned movmatrix_trans(unsigned x, const Site& site = Site::current()) {
  return simt::grid().collective<unsigned>(x, site, [](const auto& in, const auto& out) {
    Matrix8x8 m;
    for (int lane = 0; lane < simt::kLanes; ++lane)
      for (int i = 0; i < 2; ++i)
        m[lane / 4][lane % 4 * 2 + i] = static_cast<std::uint16_t>(*in[lane] >> (16 * i));
    for (int lane = 0; lane < simt::kLanes; ++lane) *out[lane] = fragment(m, lane, true);
  });
}

inline float bf16_half(unsigned pair, int half) {
  return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u);
}
inline float f16_half(unsigned pair, int half) {
  return static_cast<float>(std::bit_cast<_Float16>(static_cast<std::uint16_t>(pair >> 16 * half)));
}

/// A 16x16, B 16x8, C 16x8: A's and C's four registers and B's two are the 8x8 quarters of the matrices, A's
/// and C's column by column, B's with rows and columns exchanged.
/// `value(register, i)`: the value in a register's low or high half.
template <typename Half>
void mma(Vec<float, 4>& c, const Vec<unsigned, 4>& a, const Vec<unsigned, 2>& b, const Site& site,
         const Half& value) {
  struct Operands {
    Vec<float, 4> c;
    Vec<unsigned, 4> a;
    Vec<unsigned, 2> b;
  };
  c = simt::grid().collective<Vec<float, 4>>(Operands{c, a, b}, site, [&](const auto& in, const auto& out) {
    float a_full[16][16], b_full[16][8];
    for (int lane = 0; lane < simt::kLanes; ++lane) {
      const int row = lane / 4, column = lane % 4 * 2;
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i)
          a_full[row + i % 2 * 8][column + i / 2 * 8 + half] = value(in[lane]->a[i], half);
        for (int i = 0; i < 2; ++i) b_full[column + i * 8 + half][row] = value(in[lane]->b[i], half);
      }
    }
    float product[16][8] = {};
    for (int m = 0; m < 16; ++m)
      for (int k = 0; k < 16; ++k)
        for (int n = 0; n < 8; ++n) product[m][n] += a_full[m][k] * b_full[k][n];
    for (int lane = 0; lane < simt::kLanes; ++lane)
      for (int i = 0; i < 4; ++i)
        (*out[lane])[i] = in[lane]->c[i] + product[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  });
}
inline void mma_bf16(Vec<float, 4>& c, const Vec<unsigned, 4>& a, const Vec<unsigned, 2>& b,
                     const Site& site = Site::current()) {
  mma(c, a, b, site, bf16_half);
}
inline void mma_f16(Vec<float, 4>& c, const Vec<unsigned, 4>& a, const Vec<unsigned, 2>& b,
                    const Site& site = Site::current()) {
  mma(c, a, b, site, f16_half);
}

// --- asynchronous copies

template <typename T, typename U>
void cp_async_16(Shared<T> to, Global<U> from, int bytes = 16) {
  static_assert(std::is_same_v<std::remove_const_t<U>, T>);
  const auto* const source = reinterpret_cast<const std::byte*>(from.get());
  if (bytes > 0)
    simt::check_global_read(source, static_cast<std::size_t>(bytes), simt::SharedMemory::kCopyBytes);
  simt::grid().shared().copy_issue(to.offset(), source, static_cast<std::size_t>(bytes), simt::grid().now());
}
inline void cp_async_commit() {
  simt::grid().shared().copy_commit(simt::grid().thread());
}
template <int N>
void cp_async_wait() {
  simt::grid().shared().copy_wait(simt::grid().thread(), N, simt::grid().now());
}

// --- numbers

inline unsigned pack_bf16(float lo, float hi) {
  return to_bf16(lo).bits | static_cast<unsigned>(to_bf16(hi).bits) << 16;
}
inline unsigned pack_f16(float lo, float hi) {
  const auto bits = [](float x) { return std::bit_cast<std::uint16_t>(static_cast<_Float16>(x)); };
  return bits(lo) | static_cast<unsigned>(bits(hi)) << 16;
}
inline unsigned e4m3_to_f16(unsigned pair) {
  const auto value = [&](int byte) { return to_float(FP8{static_cast<std::uint8_t>(pair >> 8 * byte)}); };
  return pack_f16(value(0), value(1));
}
inline unsigned fma_bf16x2(unsigned a, unsigned b, unsigned c) {
  const auto half = [&](int i) { return std::fma(bf16_half(a, i), bf16_half(b, i), bf16_half(c, i)); };
  return pack_bf16(half(0), half(1));
}
inline unsigned byte_permute(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t bytes = a | static_cast<std::uint64_t>(b) << 32;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i)
    result |= static_cast<unsigned>(bytes >> 8 * (selector >> 4 * i & 7u) & 0xffu) << 8 * i;
  return result;
}
inline float exp2_fast(float x) {
  return std::exp2(x);
}

// --- launch

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), Dim3 grid, Dim3 block, std::size_t shared_bytes, Stream,
            const Arguments&... arguments) {
  simt::note_use(reinterpret_cast<const void*>(kernel));
  simt::issue([=, values = std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)] {
    simt::grid().run(grid, block, shared_bytes, [&] { std::apply(kernel, values); });
  });
}

}  // namespace helix::cuda
