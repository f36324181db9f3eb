// The CUDA kernels behind the Backend interface on the emulated GPU: what the real backend takes from CUDA
// and cuBLASLt is done by plain loops on the host here.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "cuda/gpus.hpp"
#include "kernels/comm/mpi_communicator.hpp"
#include "kernels/cuda/kernel_ops.hpp"
#include "kernels/ops/nvfp4.hpp"
#include "simt/global_memory.hpp"

namespace helix::testing {

class EmulatedBackend : public cuda::KernelOps {
 public:
  /// Who writes to device memory: only kernels and copies, so that reads of what nobody wrote are faults, or
  /// MPI, too.
  enum class Writers { kernels, kernels_and_mpi };

  /// So little that products of terms come in several parts.
  static constexpr std::size_t terms_bytes = 256 * 1024;

  explicit EmulatedBackend(const cuda::Gpu& gpu, Writers writers = Writers::kernels)
      : KernelOps(gpu, nullptr, terms_bytes), writers_(writers) {}

  using KernelOps::add_provider;

  std::string name() const override { return "cuda-emulated"; }
  std::string device_name() const override { return "emulated GPU"; }
  std::size_t memory_available() const override { return std::size_t{1} << 30; }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    auto memory = std::make_unique<Memory>(bytes);
    if (writers_ == Writers::kernels_and_mpi) set_bytes(memory->data(), 0xff, bytes);  // NaN
    return memory;
  }
  std::size_t guard_bytes() const override { return 256; }
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
  std::unique_ptr<Communicator> connect(const MpiGroup& group) override {
    return make_mpi_communicator(group.comm);
  }
  // An emulated GPU's speed means nothing.
  double read_bandwidth_bytes_per_s(std::span<const std::byte>, double) override { return 1; }
  double matrix_peak_flops_per_s(DType, double) override { return 1; }

 protected:
  bool multiplies(DType) const override { return true; }
  bool multiply(const cuda::MatrixProduct& p, const cuda::MatrixOperands& o) override {
    const Matrix w{p.dtype, p.ldw, o.w, o.w_scales}, x{p.dtype, p.ldx, o.x, o.x_scales};
    for (std::int64_t h = 0; h < p.count; ++h) {
      std::vector<std::vector<float>> weights;
      for (std::int64_t n = 0; n < p.n; ++n) weights.push_back(w.row(n, p.k, h * p.w_stride));
      for (std::int64_t i = 0; i < p.m; ++i) {
        x.check_row(i, p.k, h * p.x_stride);
        const std::vector<float> inputs = x.row(i, p.k, h * p.x_stride);
        for (std::int64_t n = 0; n < p.n; ++n) {
          const float sum = std::inner_product(inputs.begin(), inputs.end(),
                                               weights[static_cast<std::size_t>(n)].begin(), 0.0f);
          put(o.y, p.fp32_out, h * p.y_stride + i * p.ldy + n, p.factor * sum);
        }
      }
    }
    return true;
  }

 private:
  class Memory final : public Buffer {
   public:
    explicit Memory(std::size_t bytes) : allocation_("buffer", bytes) {}
    std::byte* data() override { return allocation_.data(); }
    std::size_t bytes() const override { return allocation_.size(); }
    void forbid(std::size_t offset, std::size_t count) override { allocation_.forbid(offset, count); }
    void allow_all() override {
      allocation_.check_forbidden();
      allocation_.allow_all();
    }

   private:
    simt::Allocation allocation_;
  };

  /// An operand of cuBLASLt as its documentation describes it.
  struct Matrix {
    DType dtype;
    std::int64_t ld;
    const void* data;
    const void* scales;

    float value(std::int64_t row, std::int64_t k, std::int64_t offset) const {
      const std::int64_t at = offset + row * ld + k;
      if (dtype == DType::bf16) return to_float(static_cast<const BF16*>(data)[at]);
      if (dtype == DType::fp8) return to_float(static_cast<const FP8*>(data)[at]);
      const unsigned pair = static_cast<const std::uint8_t*>(data)[at / 2];
      return e2m1_to_float(at % 2 == 0 ? pair & 15u : pair >> 4) *
             to_float(static_cast<const FP8*>(scales)[scale_at(row, k / 16)]);
    }
    std::vector<float> row(std::int64_t row, std::int64_t k, std::int64_t offset) const {
      std::vector<float> values;
      for (std::int64_t i = 0; i < k; ++i) values.push_back(value(row, i, offset));
      return values;
    }
    /// "1D block scaling factors layout": tiles of 128 (rows) x 4 (blocks along k), stored one after the
    /// other along k first; in a tile, offset = (row % 32) * 16 + (row / 32) * 4 + block.
    std::int64_t scale_at(std::int64_t row, std::int64_t block) const {
      const std::int64_t tiles_along_k = (ld + 63) / 64;
      const std::int64_t in_tile_row = row % 128, in_tile_block = block % 4;
      const std::int64_t tile = row / 128 * tiles_along_k + block / 4;
      return tile * 512 + in_tile_row % 32 * 16 + in_tile_row / 32 * 4 + in_tile_block;
    }
    /// That somebody has written what is read.
    void check_row(std::int64_t row, std::int64_t k, std::int64_t offset) const {
      const std::int64_t bits = dtype == DType::bf16 ? 16 : dtype == DType::fp8 ? 8 : 4;
      simt::check_global_read(static_cast<const std::byte*>(data) + (offset + row * ld) * bits / 8,
                              static_cast<std::size_t>(k * bits / 8), 1);
      for (std::int64_t block = 0; dtype == DType::nvfp4 && block < k / 16; ++block)
        simt::check_global_read(static_cast<const std::byte*>(scales) + scale_at(row, block), 1, 1);
    }
  };

  static void put(void* y, bool fp32, std::int64_t at, float value) {
    void* const to = fp32 ? static_cast<void*>(static_cast<float*>(y) + at) : static_cast<BF16*>(y) + at;
    simt::note_global_write(to, fp32 ? sizeof(float) : sizeof(BF16), fp32 ? sizeof(float) : sizeof(BF16));
    if (fp32) {
      *static_cast<float*>(to) = value;
    } else {
      *static_cast<BF16*>(to) = to_bf16(value);
    }
  }

  Writers writers_;
};

}  // namespace helix::testing
