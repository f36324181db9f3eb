#include "kernels/cpu/machine/host.hpp"

#include <catch2/catch.hpp>

#include "tests/scratch_folder.hpp"

using namespace helix;

TEST_CASE("available memory is the host's, or what the tightest cgroup leaves") {
  const ScratchFolder tree;  // stands for the root of the file system
  tree.write("proc/meminfo", "MemTotal:  2000 kB\nMemAvailable:  1000 kB\n");
  CHECK(cpu::host_memory_available(tree.path) == 1000 * 1024);

  SECTION("v2: a group above limits, page cache does not count") {
    tree.write("proc/self/cgroup", "0::/slice/job\n");
    tree.write("sys/fs/cgroup/slice/job/memory.max", "max\n");
    tree.write("sys/fs/cgroup/slice/job/memory.current", "100\n");
    CHECK(cpu::host_memory_available(tree.path) == 1000 * 1024);
    tree.write("sys/fs/cgroup/slice/memory.max", "5000\n");
    tree.write("sys/fs/cgroup/slice/memory.current", "3000\n");
    tree.write("sys/fs/cgroup/slice/memory.stat", "anon 2000\ninactive_file 1000\n");
    CHECK(cpu::host_memory_available(tree.path) == 3000);
    tree.write("sys/fs/cgroup/slice/memory.current", "9000\n");
    CHECK(cpu::host_memory_available(tree.path) == 0);
  }
  SECTION("v1: inside a container the group's path is not mounted, its limits are at the mount") {
    tree.write("proc/self/cgroup", "5:cpu,memory:/docker/abc\n1:name=systemd:/\n");
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
    tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1096\n");
    CHECK(cpu::host_memory_available(tree.path) == 3000);
    tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(cpu::host_memory_available(tree.path) == 1000 * 1024);
  }
  SECTION("what is not there or cannot be read limits nothing") {
    tree.write("proc/self/cgroup", "no colon\n0::/../job\n5:memory:/none\n");
    tree.write("sys/fs/cgroup/memory.max", "much\n");
    tree.write("sys/fs/cgroup/memory.current/is_a_folder", "");
    CHECK(cpu::host_memory_available(tree.path) == 1000 * 1024);
  }
}

TEST_CASE("the processor's name, on x86 and on Arm") {
  const ScratchFolder tree;  // stands for the root of the file system
  CHECK(cpu::host_cpu_name(tree.path) == "unknown CPU");
  tree.write("proc/cpuinfo",
             "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)  CPU: 8480+\n\nprocessor\t: 1\n");
  CHECK(cpu::host_cpu_name(tree.path) == "Intel(R) Xeon(R)  CPU: 8480+");
  tree.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n");
  CHECK(cpu::host_cpu_name(tree.path) == "Arm Neoverse-V2");
  tree.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x48\nCPU part\t: 0xd01\n");
  CHECK(cpu::host_cpu_name(tree.path) == "Arm CPU (implementer 0x48, part 0xd01)");
}

TEST_CASE("this host says something") {
  CHECK(cpu::host_memory_available() > 1024 * 1024);
  CHECK_FALSE(cpu::host_cpu_name().empty());
}
