#include "kernels/comm/lone_communicator.hpp"

#include <stdexcept>

namespace helix {
namespace {

/// Rank 0 of `size`. Every other rank sends what this one sends itself: values of the right size and spread, so that
/// what is done with them takes its usual time. Sums are those of its own part.
class LoneCommunicator final : public Communicator {
 public:
  LoneCommunicator(Device& device, int size) : device_(device), size_(size) {}

  int rank() const override { return 0; }
  int size() const override { return size_; }

  void all_to_all(const std::byte* send, std::byte* recv, std::size_t bytes_per_peer) override {
    all_gather(send, recv, bytes_per_peer);
  }
  void all_gather(const std::byte* send, std::byte* recv, std::size_t bytes) override {
    for (int r = 0; r < size_; ++r) device_.copy(recv + static_cast<std::size_t>(r) * bytes, send, bytes);
  }
  void all_reduce_sum(BF16*, std::int64_t) override {}

  void start_all_to_all(int, const std::byte* send, std::byte* recv, std::size_t bytes_per_peer) override {
    all_to_all(send, recv, bytes_per_peer);
  }
  void finish_all_to_all(int) override {}

  void all_gather_rows(std::byte*, std::int64_t, std::size_t) override { refuse(); }
  void reduce_scatter_rows(BF16*, std::int64_t, std::int64_t) override { refuse(); }
  void exchange(const std::byte*, std::size_t, int, std::byte*, std::size_t, int) override { refuse(); }

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("see why_not_alone"); }

  Device& device_;
  int size_;
};

}  // namespace

std::string why_not_alone(const Sharding& sharding) {
  if (sharding.pp > 1) return "one rank alone keeps no pipeline busy: pp is to be 1";
  if (attends_whole_requests(sharding))
    return "one rank alone does not know which experts the others' requests choose: dp+ep needs all ranks";
  return {};
}

Groups lone_groups(Device& device, const Sharding& sharding) {
  const auto of = [&](int size) { return std::make_unique<LoneCommunicator>(device, size); };
  return {.stage = of(sharding.stage_ranks()), .kvp = of(sharding.kvp), .pipeline = of(sharding.pp)};
}

}  // namespace helix
