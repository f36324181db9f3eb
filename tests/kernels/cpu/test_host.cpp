#include <catch2/catch.hpp>
#include <fstream>

#include "kernels/cpu/machine/host.hpp"

using namespace helix;
namespace fs = std::filesystem;

namespace {

/// A file tree like the host's, removed at the end.
class Tree {
 public:
  Tree() : root_(fs::temp_directory_path() / "helix_test_host") { fs::remove_all(root_); }
  ~Tree() { fs::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;
  void write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

}  // namespace

TEST_CASE("available memory is the host's, or what the tightest cgroup leaves") {
  Tree tree;
  tree.write("proc/meminfo", "MemTotal:  2000 kB\nMemAvailable:  1000 kB\n");
  CHECK(cpu::host_memory_available(tree.root()) == 1000 * 1024);

  SECTION("v2: a group above limits, page cache does not count") {
    tree.write("proc/self/cgroup", "0::/slice/job\n");
    tree.write("sys/fs/cgroup/slice/job/memory.max", "max\n");
    tree.write("sys/fs/cgroup/slice/job/memory.current", "100\n");
    CHECK(cpu::host_memory_available(tree.root()) == 1000 * 1024);
    tree.write("sys/fs/cgroup/slice/memory.max", "5000\n");
    tree.write("sys/fs/cgroup/slice/memory.current", "3000\n");
    tree.write("sys/fs/cgroup/slice/memory.stat", "anon 2000\ninactive_file 1000\n");
    CHECK(cpu::host_memory_available(tree.root()) == 3000);
    tree.write("sys/fs/cgroup/slice/memory.current", "9000\n");
    CHECK(cpu::host_memory_available(tree.root()) == 0);
  }
  SECTION("v1: inside a container the group's path is not mounted, its limits are at the mount") {
    tree.write("proc/self/cgroup", "5:cpu,memory:/docker/abc\n1:name=systemd:/\n");
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1096\n");
    CHECK(cpu::host_memory_available(tree.root()) == 3000);
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(cpu::host_memory_available(tree.root()) == 1000 * 1024);
  }
}

TEST_CASE("the processor's name, on x86 and on Arm") {
  Tree tree;
  CHECK(cpu::host_cpu_name(tree.root()) == "unknown CPU");
  tree.write("proc/cpuinfo",
             "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  CPU: 8480+\n\nprocessor\t: 1\n");
  CHECK(cpu::host_cpu_name(tree.root()) == "Intel(R) Xeon(R)  CPU: 8480+");
  tree.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n");
  CHECK(cpu::host_cpu_name(tree.root()) == "Arm Neoverse-V2");
  tree.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x48\nCPU part\t: 0xd01\n");
  CHECK(cpu::host_cpu_name(tree.root()) == "Arm CPU (implementer 0x48, part 0xd01)");
}

TEST_CASE("this host says something") {
  CHECK(cpu::host_memory_available() > 1024 * 1024);
  CHECK_FALSE(cpu::host_cpu_name().empty());
}
