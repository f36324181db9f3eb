#include "kernels/cpu/machine/host.hpp"

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>

namespace helix::cpu {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

/// The number that a file starts with; nothing for "max".
std::optional<std::size_t> read_number(const fs::path& file) {
  std::ifstream in(file);
  std::size_t value = 0;
  return in >> value ? std::optional(value) : std::nullopt;
}

/// The number after the word `name`, or 0.
std::size_t read_field(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  std::size_t value = 0;
  for (std::string word; in >> word;) {
    if (word == name && in >> value) return value;
  }
  return 0;
}

struct CgroupFiles {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // in memory.stat: page cache that the kernel drops before it kills
};

/// The least room in `group` and the groups above it, up to the hierarchy's `mount`.
std::size_t room_in_cgroups(const fs::path& mount, const fs::path& group, const CgroupFiles& files) {
  std::size_t room = kNoLimit;
  for (fs::path level = group.relative_path();; level = level.parent_path()) {
    const fs::path dir = mount / level;
    const auto limit = read_number(dir / files.limit);
    const auto usage = read_number(dir / files.usage);
    if (limit && usage) {
      const std::size_t held = *usage - std::min(*usage, read_field(dir / "memory.stat", files.reclaimable));
      room = std::min(room, *limit - std::min(*limit, held));
    }
    if (level.empty()) return room;
  }
}

/// /proc/self/cgroup has a line "hierarchy:controllers:path" for each hierarchy; v2 is hierarchy 0.
std::size_t cgroup_room(const fs::path& root) {
  constexpr CgroupFiles v1{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
  constexpr CgroupFiles v2{"memory.max", "memory.current", "inactive_file"};
  const fs::path mount = root / "sys/fs/cgroup";
  std::size_t room = kNoLimit;
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string hierarchy, controllers, group;
    if (!std::getline(fields, hierarchy, ':') || !std::getline(fields, controllers, ':')) continue;
    std::getline(fields, group);
    if (hierarchy == "0") room = std::min(room, room_in_cgroups(mount, group, v2));
    if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      room = std::min(room, room_in_cgroups(mount / "memory", group, v1));
    }
  }
  return room;
}

std::map<std::string, std::string> first_cpu(const fs::path& root) {
  std::map<std::string, std::string> fields;
  std::ifstream in(root / "proc/cpuinfo");
  for (std::string line; std::getline(in, line) && !line.empty();) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto name_end = line.find_last_not_of(" \t", colon - 1);
    const auto value = line.find_first_not_of(" \t", colon + 1);
    fields[line.substr(0, name_end + 1)] = value == std::string::npos ? "" : line.substr(value);
  }
  return fields;
}

}  // namespace

std::size_t host_memory_available(const fs::path& root) {
  const std::size_t kib = read_field(root / "proc/meminfo", "MemAvailable:");
  return std::min(kib * 1024, cgroup_room(root));
}

std::string host_cpu_name(const fs::path& root) {
  auto cpu = first_cpu(root);
  if (!cpu["model name"].empty()) return cpu["model name"];
  // Arm gives numbers only; the parts are from Arm's Technical Reference Manuals (MIDR_EL1).
  static const std::map<std::string, std::string> arm_parts = {
      {"0xd0c", "Neoverse-N1"}, {"0xd40", "Neoverse-V1"}, {"0xd49", "Neoverse-N2"}, {"0xd4f", "Neoverse-V2"}};
  const std::string implementer = cpu["CPU implementer"], part = cpu["CPU part"];
  if (part.empty()) return "unknown CPU";
  const auto known = arm_parts.find(part);
  if (implementer == "0x41" && known != arm_parts.end()) return "Arm " + known->second;
  return "Arm CPU (implementer " + implementer + ", part " + part + ")";
}

}  // namespace helix::cpu
