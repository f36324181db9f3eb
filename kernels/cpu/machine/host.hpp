// What the operating system says about the host: free memory and the processor's name. `root` is where the
// file system starts (tests give a tree of their own).
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace helix::cpu {

/// Bytes that this process may still allocate: the host's available memory, less where a cgroup (v1 or v2)
/// limits it.
std::size_t host_memory_available(const std::filesystem::path& root = "/");

/// "Intel(R) Xeon(R) Platinum 8480+", "Arm Neoverse-V2"; "unknown CPU" where /proc does not say.
std::string host_cpu_name(const std::filesystem::path& root = "/");

}  // namespace helix::cpu
