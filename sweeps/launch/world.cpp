#include "sweeps/launch/world.hpp"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/ops/backend.hpp"

namespace helix {
namespace {

// "32K" or "307200K", as sysfs writes cache sizes.
std::size_t parse_cache_size(const std::string& text) {
  std::size_t digits = 0;
  const std::size_t value = std::stoull(text, &digits);
  const char unit = digits < text.size() ? text[digits] : ' ';
  return value << (unit == 'K' ? 10 : unit == 'M' ? 20 : unit == 'G' ? 30 : 0);
}

std::string first_line(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// Sum over the distinct caches of the highest level.
std::size_t last_level_cache_bytes() {
  namespace fs = std::filesystem;
  int highest = 0;
  std::set<std::pair<std::string, std::size_t>> caches;  // (CPUs that share it, bytes)
  std::error_code none;
  for (const fs::directory_entry& cpu : fs::directory_iterator("/sys/devices/system/cpu", none)) {
    for (const fs::directory_entry& index : fs::directory_iterator(cpu.path() / "cache", none)) {
      const std::string level = first_line(index.path() / "level");
      const std::string size = first_line(index.path() / "size");
      if (level.empty() || size.empty()) continue;
      if (std::stoi(level) > highest) {
        highest = std::stoi(level);
        caches.clear();
      }
      if (std::stoi(level) == highest) {
        caches.emplace(first_line(index.path() / "shared_cpu_list"), parse_cache_size(size));
      }
    }
  }
  std::size_t total = 0;
  for (const auto& [cpus, bytes] : caches) total += bytes;
  return total;
}

using CpuMask = std::array<unsigned char, 1024 / 8>;

CpuMask affinity() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CpuMask mask{};
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return mask;
  for (std::size_t cpu = 0; cpu < 8 * mask.size() && cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) mask[cpu / 8] = static_cast<unsigned char>(mask[cpu / 8] | (1u << (cpu % 8)));
  }
  return mask;
}

int common_cpus(const CpuMask& a, const CpuMask& b) {
  int count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += __builtin_popcount(a[i] & b[i]);
  return count;
}

/// "0-3,8": short enough for hosts with hundreds of CPUs.
std::string cpu_list(const CpuMask& mask) {
  constexpr std::size_t cpus = 8 * std::tuple_size_v<CpuMask>;
  const auto held = [&](std::size_t cpu) { return cpu < cpus && ((mask[cpu / 8] >> (cpu % 8)) & 1u) != 0; };
  std::string text;
  for (std::size_t first = 0; first < cpus; ++first) {
    if (!held(first)) continue;
    std::size_t last = first;
    while (held(last + 1)) ++last;
    text += text.empty() ? "" : ",";
    text += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
    first = last;
  }
  return text;
}

/// One text of every rank, on rank 0.
std::vector<std::string> gather_texts(const std::string& mine, MPI_Comm comm, int rank, int size) {
  constexpr std::size_t width = 512;
  std::array<char, width> padded{};
  mine.copy(padded.data(), width - 1);
  std::vector<char> all(rank == 0 ? width * static_cast<std::size_t>(size) : 0);
  HELIX_MPI(MPI_Gather(padded.data(), width, MPI_CHAR, all.data(), width, MPI_CHAR, 0, comm));
  std::vector<std::string> texts;
  for (std::size_t r = 0; r * width < all.size(); ++r) texts.emplace_back(&all[r * width]);
  return texts;
}

// What the fraction leaves is for the buffers of MPI or NCCL, and whatever else the node does.
std::size_t usable_everywhere(std::size_t available, double fraction, MPI_Comm comm) {
  auto memory = static_cast<std::uint64_t>(static_cast<double>(available) * fraction);
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &memory, 1, MPI_UINT64_T, MPI_MIN, comm));
  return memory;
}

}  // namespace

World describe_world(MPI_Comm comm, double memory_fraction) {
  World world;
  world.memory_fraction = memory_fraction;
  world.comm = comm;
  HELIX_MPI(MPI_Comm_rank(comm, &world.rank));
  HELIX_MPI(MPI_Comm_size(comm, &world.size));
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  world.host = host.data();

  MPI_Comm node = MPI_COMM_NULL;
  HELIX_MPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, world.rank, MPI_INFO_NULL, &node));
  HELIX_MPI(MPI_Comm_size(node, &world.node_ranks));

  const CpuMask mine = affinity();
  std::vector<CpuMask> masks(static_cast<std::size_t>(world.node_ranks));
  HELIX_MPI(
      MPI_Allgather(mine.data(), sizeof(CpuMask), MPI_BYTE, masks.data(), sizeof(CpuMask), MPI_BYTE, node));
  world.placement = gather_texts(world.host + ": CPUs " + cpu_list(mine), comm, world.rank, world.size);
  CpuMask all{};
  int sharers = 0;
  for (const CpuMask& mask : masks) {
    if (common_cpus(mask, mine) > 0) ++sharers;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] |= mask[i];
  }
  int threads = std::max(1, common_cpus(mine, mine) / std::max(1, sharers));
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &threads, 1, MPI_INT, MPI_MIN, comm));
  world.threads = world.host_threads = threads;
  int crowded = threads * world.node_ranks > common_cpus(all, all) ? 1 : 0;
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &crowded, 1, MPI_INT, MPI_MAX, comm));
  world.oversubscribed = crowded != 0;

  world.node_cache_bytes = last_level_cache_bytes();
  world.memory_bytes =
      usable_everywhere(make_cpu_backend(1)->memory_available() / static_cast<std::size_t>(world.node_ranks),
                        memory_fraction, comm);
  HELIX_MPI(MPI_Comm_free(&node));
  return world;
}

void describe_device(World& world, const Backend& backend) {
  world.threads = backend.threads();
  world.oversubscribed = false;
  world.node_cache_bytes = backend.cache_bytes() * static_cast<std::size_t>(world.node_ranks);
  world.memory_bytes = usable_everywhere(backend.memory_available(), world.memory_fraction, world.comm);
}

}  // namespace helix
