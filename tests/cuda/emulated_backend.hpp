// The CUDA kernels behind the Backend interface on the emulated GPU: what the real backend takes from CUDA
// and cuBLASLt is done by plain loops on the host here.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>

#include "cuda/gpus.hpp"
#include "kernels/cuda/kernel_ops.hpp"
#include "kernels/cuda/packed_rows.hpp"
#include "simt/global_memory.hpp"

namespace helix::testing {

class EmulatedBackend : public cuda::KernelOps {
 public:
  /// Who writes to device memory: only kernels and copies, so that reads of what nobody wrote are faults, or
  /// MPI, too.
  enum class Writers { kernels, kernels_and_mpi };

  explicit EmulatedBackend(const cuda::Gpu& gpu, Writers writers = Writers::kernels)
      : KernelOps(gpu, nullptr), writers_(writers) {}

  std::string name() const override { return "cuda-emulated"; }
  std::string device_name() const override { return "emulated GPU"; }
  std::size_t memory_available() const override { return std::size_t{1} << 30; }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    auto memory = std::make_unique<Memory>(bytes);
    if (writers_ == Writers::kernels_and_mpi) set_bytes(memory->data(), 0xff, bytes);  // NaN
    return memory;
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    if (bytes == 0) return;
    simt::check_global_read(device, bytes, 1);
    std::memcpy(host, device, bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    if (bytes == 0) return;
    simt::note_global_write(device, bytes, 1);
    std::memcpy(device, host, bytes);
  }
  void set_bytes(void* device, int value, std::size_t bytes) override {
    if (bytes == 0) return;
    simt::note_global_write(device, bytes, 1);
    std::memset(device, value, bytes);
  }
  void synchronize() override {}
  // An emulated GPU's speed means nothing.
  double read_bandwidth_bytes_per_s(std::span<const std::byte>, double) override { return 1; }
  double matrix_peak_flops_per_s(DType, double) override { return 1; }

  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y,
              std::int64_t ldy) override {
    product(m, x, ldx, w.data, w, y, ldy);
  }
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
              std::int64_t ldy) override {
    product(m, x, ldx, w.data, w, y, ldy);
  }
  void linear_per_head(std::int64_t batch, const BF16* x, std::int64_t ldx, std::int64_t x_head_stride,
                       const PackedWeight& w, BF16* y, std::int64_t ldy,
                       std::int64_t y_head_stride) override {
    for (std::int64_t h = 0; h < w.count; ++h) {
      product(batch, x + h * x_head_stride, ldx, w.data + static_cast<std::size_t>(h) * w.stride_bytes, w,
              y + h * y_head_stride, ldy);
    }
  }

 private:
  class Memory final : public Buffer {
   public:
    explicit Memory(std::size_t bytes) : allocation_("buffer", bytes) {}
    std::byte* data() override { return allocation_.data(); }
    std::size_t bytes() const override { return allocation_.size(); }

   private:
    simt::Allocation allocation_;
  };

  static void put(BF16& y, float value) { y = to_bf16(value); }
  static void put(float& y, float value) { y = value; }

  template <class Y>
  static void product(std::int64_t m, const BF16* x, std::int64_t ldx, const std::byte* matrix,
                      const PackedWeight& w, Y* y, std::int64_t ldy) {
    const auto* weights = reinterpret_cast<const BF16*>(matrix);
    const std::int64_t ldw = cuda::packed_ld(w.k);
    for (std::int64_t i = 0; i < m; ++i) {
      simt::check_global_read(x + i * ldx, static_cast<std::size_t>(w.k) * sizeof(BF16), sizeof(BF16));
      simt::note_global_write(y + i * ldy, static_cast<std::size_t>(w.n) * sizeof(Y), sizeof(Y));
      for (std::int64_t n = 0; n < w.n; ++n) {
        float sum = 0.0f;
        for (std::int64_t k = 0; k < w.k; ++k)
          sum += to_float(x[i * ldx + k]) * to_float(weights[n * ldw + k]);
        put(y[i * ldy + n], sum);
      }
    }
  }

  Writers writers_;
};

}  // namespace helix::testing
