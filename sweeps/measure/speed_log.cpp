#include "sweeps/measure/speed_log.hpp"

#include <algorithm>

#include "kernels/comm/mpi_check.hpp"

namespace helix {

void SpeedLog::add(const DeviceSpeed& speed) {
  if (speed.clock_mhz > 0) {
    least_mhz_ = least_mhz_ > 0 ? std::min(least_mhz_, speed.clock_mhz) : speed.clock_mhz;
    most_mhz_ = std::max(most_mhz_, speed.clock_mhz);
  }
  throttles_.insert(speed.throttles.begin(), speed.throttles.end());
}

nlohmann::ordered_json SpeedLog::gather(MPI_Comm comm) const {
  const nlohmann::ordered_json mine = {
      {"clock_mhz_least", least_mhz_ > 0 ? nlohmann::ordered_json(least_mhz_) : nullptr},
      {"clock_mhz_most", most_mhz_ > 0 ? nlohmann::ordered_json(most_mhz_) : nullptr},
      {"throttle_reasons", throttles_}};
  const std::string text = mine.dump();
  int rank = 0, ranks = 1, length = static_cast<int>(text.size());
  HELIX_MPI(MPI_Comm_rank(comm, &rank));
  HELIX_MPI(MPI_Comm_size(comm, &ranks));
  std::vector<int> lengths(static_cast<std::size_t>(ranks)), starts(lengths.size());
  HELIX_MPI(MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, comm));
  for (std::size_t r = 1; r < starts.size(); ++r) starts[r] = starts[r - 1] + lengths[r - 1];
  std::string all(static_cast<std::size_t>(starts.back() + lengths.back()), ' ');
  HELIX_MPI(MPI_Gatherv(text.data(), length, MPI_CHAR, all.data(), lengths.data(), starts.data(), MPI_CHAR, 0,
                        comm));

  auto json = nlohmann::ordered_json::array();
  if (rank != 0) return json;
  bool any = false;
  for (std::size_t r = 0; r < starts.size(); ++r) {
    json.push_back(nlohmann::ordered_json::parse(std::string_view(all).substr(
        static_cast<std::size_t>(starts[r]), static_cast<std::size_t>(lengths[r]))));
    any = any || !json.back()["clock_mhz_most"].is_null() || !json.back()["throttle_reasons"].empty();
  }
  return any ? json : nullptr;
}

}  // namespace helix
