// The emulated GPU with CUDA's rules for work that is issued ahead: steps can be recorded and replayed, and
// inside of a step nothing is allocated, copied to or from the host, or waited for.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <stdexcept>
#include <vector>

#include "cuda/emulated_backend.hpp"
#include "kernels/comm/mpi_communicator.hpp"
#include "simt/capture.hpp"

namespace helix::testing {

class AsynchronousBackend final : public EmulatedBackend {
 public:
  AsynchronousBackend() : EmulatedBackend(cuda::kDatacentreGpu, Writers::kernels_and_mpi) {}

  bool asynchronous() const override { return true; }

  /// Runs `ops` as part of a step.
  void in_step(const std::function<void()>& ops) {
    const struct Leave {
      bool& in_step;
      ~Leave() { in_step = false; }
    } leave{in_step_};
    in_step_ = true;
    ops();
  }
  std::unique_ptr<Recording> record(const std::function<void()>& ops) override {
    auto graph = std::make_unique<Graph>();
    const struct EndCapture {
      ~EndCapture() { simt::capture = nullptr; }
    } end_capture;
    simt::capture = &graph->operations;
    in_step(ops);
    return graph;
  }
  std::unique_ptr<Stopwatch> make_stopwatch() override { return std::make_unique<Events>(); }
  std::unique_ptr<Communicator> connect(const MpiGroup& group) override {
    return std::make_unique<StreamCommunicator>(make_mpi_communicator(group.comm));
  }

  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    refuse_in_step("allocate");
    return EmulatedBackend::allocate(bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    refuse_in_step("copy_to_host");
    EmulatedBackend::copy_to_host(host, device, bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    refuse_in_step("copy_to_device");
    EmulatedBackend::copy_to_device(device, host, bytes);
  }
  void synchronize() override { refuse_in_step("synchronize"); }

  void set_bytes(void* device, int value, std::size_t bytes) override {
    simt::issue([=, this] { EmulatedBackend::set_bytes(device, value, bytes); });
  }
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, BF16* y,
              std::int64_t ldy) override {
    simt::issue([=, this] { EmulatedBackend::linear(m, x, ldx, w, y, ldy); });
  }
  void linear(std::int64_t m, const BF16* x, std::int64_t ldx, const PackedWeight& w, float* y,
              std::int64_t ldy) override {
    simt::issue([=, this] { EmulatedBackend::linear(m, x, ldx, w, y, ldy); });
  }
  void linear_per_head(std::int64_t batch, HeadRows<const BF16> x, const PackedWeight& w,
                       HeadRows<BF16> y) override {
    simt::issue([=, this] { EmulatedBackend::linear_per_head(batch, x, w, y); });
  }

 private:
  struct Graph final : Recording {
    void replay() override {
      for (const auto& operation : operations) operation();
    }
    simt::Operations operations;
  };

  class Events final : public Stopwatch {
   public:
    void mark(std::size_t i) override {
      simt::issue([=, this] { times_[i] = std::chrono::steady_clock::now(); });
    }
    double us_between(std::size_t first, std::size_t second) override {
      return std::chrono::duration<double, std::micro>(times_.at(second) - times_.at(first)).count();
    }

   private:
    std::map<std::size_t, std::chrono::steady_clock::time_point> times_;
  };

  /// Collectives in the order of the ops, on buffers that are given when they are issued.
  class StreamCommunicator final : public Communicator {
   public:
    explicit StreamCommunicator(std::unique_ptr<Communicator> mpi) : mpi_(std::move(mpi)) {}
    int rank() const override { return mpi_->rank(); }
    int size() const override { return mpi_->size(); }
    void all_to_all(const std::byte* send, std::byte* recv, std::size_t bytes) override {
      simt::issue([=, this] { mpi_->all_to_all(send, recv, bytes); });
    }
    void all_gather(const std::byte* send, std::byte* recv, std::size_t bytes) override {
      simt::issue([=, this] { mpi_->all_gather(send, recv, bytes); });
    }
    void all_reduce_sum(BF16* data, std::int64_t count) override {
      simt::issue([=, this] { mpi_->all_reduce_sum(data, count); });
    }
    void start_all_to_all(int slot, const std::byte* send, std::byte* recv, std::size_t bytes) override {
      simt::issue([=, this] { mpi_->start_all_to_all(slot, send, recv, bytes); });
    }
    void finish_all_to_all(int slot) override {
      simt::issue([=, this] { mpi_->finish_all_to_all(slot); });
    }
    void all_gather_rows(std::byte* data, std::int64_t rows, std::size_t row_bytes) override {
      simt::issue([=, this] { mpi_->all_gather_rows(data, rows, row_bytes); });
    }
    void reduce_scatter_rows(BF16* data, std::int64_t rows, std::int64_t width) override {
      simt::issue([=, this] { mpi_->reduce_scatter_rows(data, rows, width); });
    }
    void exchange(const std::byte* send, std::size_t send_bytes, int to, std::byte* recv,
                  std::size_t recv_bytes, int from) override {
      simt::issue([=, this] { mpi_->exchange(send, send_bytes, to, recv, recv_bytes, from); });
    }

   private:
    std::unique_ptr<Communicator> mpi_;
  };

  void refuse_in_step(const char* what) const {
    if (in_step_) throw std::logic_error(std::string(what) + " inside of a step");
  }

  bool in_step_ = false;
};

}  // namespace helix::testing
