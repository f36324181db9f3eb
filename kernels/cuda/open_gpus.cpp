#include "kernels/cuda/open_gpus.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "kernels/cuda/device/local_gpu.hpp"
#include "roofline/base/error.hpp"

namespace helix::cuda {
namespace {

/// What the other ranks have to know of a rank's GPU.
struct Report {
  std::array<char, 64> host{};
  std::array<char, 96> name{};
  std::array<char, 40> uuid{};
  std::array<char, 256> problem{};
};

template <std::size_t N>
void put(const std::string& text, std::array<char, N>& field) {
  text.copy(field.data(), N - 1);
}

class Survey {
 public:
  explicit Survey(MPI_Comm world) {
    int rank = 0, size = 1, local_rank = 0, local_ranks = 1;
    HELIX_MPI(MPI_Comm_rank(world, &rank));
    HELIX_MPI(MPI_Comm_size(world, &size));
    MPI_Comm node = MPI_COMM_NULL;
    HELIX_MPI(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node));
    HELIX_MPI(MPI_Comm_rank(node, &local_rank));
    HELIX_MPI(MPI_Comm_size(node, &local_ranks));
    HELIX_MPI(MPI_Comm_free(&node));

    mine_ = choose_gpu(local_rank, local_ranks);
    Report report;
    gethostname(report.host.data(), report.host.size() - 1);
    put(mine_.gpu.name, report.name);
    put(mine_.gpu.uuid, report.uuid);
    put(mine_.problem, report.problem);
    reports_.resize(static_cast<std::size_t>(size));
    HELIX_MPI(
        MPI_Allgather(&report, sizeof(Report), MPI_BYTE, reports_.data(), sizeof(Report), MPI_BYTE, world));
  }

  const LocalGpu& gpu() const { return mine_.gpu; }
  bool any_usable() const {
    return std::ranges::any_of(reports_, [](const Report& r) { return r.problem[0] == '\0'; });
  }

  /// The first thing that is wrong anywhere; empty if nothing is.
  std::string problem() const {
    for (std::size_t r = 0; r < reports_.size(); ++r) {
      if (reports_[r].problem[0] != '\0') return fmt::format("{}: {}", place(r), reports_[r].problem.data());
    }
    for (std::size_t r = 0; r < reports_.size(); ++r) {
      if (reports_[r].name != reports_[0].name) {
        return fmt::format("{} has a {}, {} a {}; all ranks need the same GPU", place(r),
                           reports_[r].name.data(), place(0), reports_[0].name.data());
      }
      for (std::size_t other = 0; other < r; ++other) {
        if (reports_[r].uuid == reports_[other].uuid) {
          return fmt::format("{} and rank {} share one GPU; launch one rank per GPU", place(other), r);
        }
      }
    }
    return {};
  }

 private:
  std::string place(std::size_t rank) const {
    return fmt::format("{} rank {}", reports_[rank].host.data(), rank);
  }

  GpuChoice mine_;
  std::vector<Report> reports_;
};

}  // namespace

bool any_gpu(MPI_Comm world) {
  return Survey(world).any_usable();
}

std::unique_ptr<Backend> open_gpus(MPI_Comm world) {
  const Survey survey(world);
  if (const std::string problem = survey.problem(); !problem.empty())
    throw UsageError("--backend cuda: " + problem);
  return make_cuda_backend(survey.gpu());
}

}  // namespace helix::cuda
