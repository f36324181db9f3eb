#include "sweeps/output/provenance.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <mpi.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "helix_version.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/model/config_file.hpp"
#include "roofline/model/model_spec.hpp"
#include "sweeps/request/enumerate.hpp"

namespace helix {
namespace {

using nlohmann::ordered_json;

/// Only what is known to matter for times: the environment holds secrets, too.
constexpr std::array environment_allow_list = {"OMP_NUM_THREADS",
                                               "OMP_PROC_BIND",
                                               "OMP_PLACES",
                                               "OMP_WAIT_POLICY",
                                               "HELIX_ISA",
                                               "OMPI_COMM_WORLD_SIZE",
                                               "OMPI_COMM_WORLD_LOCAL_SIZE",
                                               "OMPI_MCA_btl",
                                               "OMPI_MCA_pml",
                                               "OMPI_MCA_mpi_yield_when_idle",
                                               "OMPI_MCA_rmaps_base_oversubscribe",
                                               "OMPI_MCA_hwloc_base_binding_policy",
                                               "CUDA_VISIBLE_DEVICES",
                                               "NCCL_ALGO",
                                               "NCCL_PROTO",
                                               "NCCL_P2P_DISABLE",
                                               "SLURM_JOB_ID",
                                               "SLURM_JOB_NUM_NODES",
                                               "SLURM_CPUS_PER_TASK"};

/// The value of the first line of /proc/cpuinfo with this key.
std::string cpu_info(std::string_view key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const auto colon = line.find(": ");
    return colon == std::string::npos ? "" : line.substr(colon + 2);
  }
  return "";
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

ordered_json number_or_null(const std::string& text, double unit) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return end == text.c_str() ? ordered_json(nullptr) : ordered_json(value * unit);
}

/// "Debian GNU/Linux 12 (bookworm)", of the system that the program runs on; null where no file says so.
ordered_json distribution() {
  constexpr std::string_view key = "PRETTY_NAME=";
  std::ifstream file("/etc/os-release");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    std::string name = line.substr(key.size());
    if (name.size() >= 2 && name.front() == '"' && name.back() == '"') name = name.substr(1, name.size() - 2);
    return name;
  }
  return nullptr;
}

ordered_json host_provenance() {
  utsname system{};
  uname(&system);
  const std::string cpu = cpu_info("model name");
  return {{"name", system.nodename},
          {"cpu", cpu.empty() ? ordered_json(system.machine) : ordered_json(cpu)},
          {"cores_online", std::thread::hardware_concurrency()},
          {"clock_mhz_at_start", number_or_null(cpu_info("cpu MHz"), 1.0)},
          {"clock_mhz_max",
           number_or_null(first_line("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"), 1e-3)},
          {"governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")},
          {"memory_bytes", static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE)},
          {"distribution", distribution()},
          {"kernel", fmt::format("{} {}", system.sysname, system.release)}};
}

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  return text.data();
}

/// What the program was built with, and the MPI that it runs with.
ordered_json library_provenance() {
  ordered_json libraries = {{"compiler", HELIX_COMPILER},
                            {"build_type", HELIX_BUILD_TYPE},
                            {"built_on", HELIX_BUILT_ON},
                            {"mpi", mpi_library()},
                            {"mpi_standard", fmt::format("{}.{}", MPI_VERSION, MPI_SUBVERSION)}};
  constexpr std::pair<const char*, const char*> versions[] = {HELIX_LIBRARIES};
  for (const auto& [library, version] : versions) libraries[library] = version;
  return libraries;
}

/// The models, with the configuration of those that are not built in.
ordered_json models_provenance(const SweepRequest& request) {
  const std::vector<std::string> built_in = built_in_models();
  std::set<std::string> seen;
  ordered_json models = ordered_json::array();
  for (const SweepSpace& block : request.blocks) {
    for (const std::string& requested : block.models) {
      if (!seen.insert(model_key(block, requested)).second) continue;
      const ModelSpec model = load_model(requested);
      ordered_json entry{{"name", model.name}};
      if (std::ranges::find(built_in, model.name) == built_in.end()) {
        entry["file"] = std::filesystem::absolute(requested).lexically_normal().string();
        entry["config"] = read_text_file(requested, "config.json");
      }
      if (!block.draft_model.empty()) {
        const std::filesystem::path file = std::filesystem::absolute(config_file(block.draft_model));
        entry["draft_model"] = {{"name", model_name(file)},
                                {"file", file.lexically_normal().string()},
                                {"config", read_text_file(file.string(), "config.json")}};
      }
      models.push_back(std::move(entry));
    }
  }
  return models;
}

ordered_json environment() {
  ordered_json found = ordered_json::object();
  for (const char* name : environment_allow_list) {
    if (const char* value = std::getenv(name)) found[name] = value;
  }
  return found;
}

}  // namespace

std::string_view program_version() {
  return HELIX_VERSION;
}
std::string_view program_commit() {
  return HELIX_COMMIT;
}

ordered_json to_json(const DeviceConditions& conditions) {
  ordered_json json;
  for (const auto& [name, value] : conditions) json[name] = value;
  return json;
}

std::string utc_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

ordered_json run_provenance(const SweepRequest& request, const EngineProvenance& engine) {
  return {
      {"schema_version", 1},
      {"program", "helix-bench"},
      {"version", program_version()},
      {"commit", program_commit()},
      {"command_line", request.command_line},
      {"start_time", utc_now()},
      {"end_time", nullptr},
      {"seed", request.seed},
      {"models", models_provenance(request)},
      {"stopping",
       {{"max_time_s", request.stopping.max_time_s},
        {"min_samples", request.stopping.min_samples},
        {"relative_error", request.stopping.relative_error}}},
      {"ttl_budget_ms", request.ttl_budget_ms ? ordered_json(*request.ttl_budget_ms) : ordered_json(nullptr)},
      {"memory_fraction", request.memory_fraction},
      {"backend", engine.backend},
      {"kernel", engine.kernel},
      {"device", engine.device.empty() ? ordered_json(nullptr) : ordered_json(engine.device)},
      {"device_at_start", to_json(engine.device_conditions)},
      {"device_at_end", nullptr},
      {"devices_measured", nullptr},  // each rank's, right behind the steps of the points
      {"mpi",
       {{"ranks", engine.world_ranks},
        {"threads_per_rank", engine.threads_per_rank},
        {"placement", engine.placement}}},
      {"system", engine.system},
      {"calibration",
       engine.calibration_yaml.empty() ? ordered_json(nullptr) : ordered_json(engine.calibration_yaml)},
      {"host", host_provenance()},
      {"libraries", library_provenance()},
      {"environment", environment()}};
}

}  // namespace helix
