#include "roofline/system/system_spec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <utility>

#include "roofline/base/embedded.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/spelling.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/base/yaml_file.hpp"
#include "roofline/base/yaml_map.hpp"
#include "roofline/system/gpu_kernels.hpp"
#include "roofline/system/gpu_kernels_yaml.hpp"

namespace helix {
namespace {

constexpr std::array families = {
    std::pair{KernelFamily::gemm, std::string_view("gemm")},
    std::pair{KernelFamily::gqa_attention, std::string_view("gqa_attention")},
    std::pair{KernelFamily::mla_attention, std::string_view("mla_attention")},
    std::pair{KernelFamily::indexer, std::string_view("indexer")},
    std::pair{KernelFamily::moe, std::string_view("moe")},
    std::pair{KernelFamily::elementwise, std::string_view("elementwise")},
};

constexpr std::array dtypes = {
    std::pair{DType::bf16, std::string_view("bf16")},
    std::pair{DType::fp8, std::string_view("fp8")},
    std::pair{DType::nvfp4, std::string_view("nvfp4")},
    std::pair{DType::fp4, std::string_view("fp4")},
};

struct DescribeSystem {
  static constexpr yaml::Limits bandwidth{1e6, 1e15};  // bytes/s
  // What a busy machine measured is kept, however absurd.
  static constexpr yaml::Limits measured_rate{1e3, 1e18};
  static constexpr yaml::Limits time_us{0, 1e9};
  static constexpr yaml::Limits relative{0, 1e12};

  void operator()(auto& io, auto& s) const {
    io.text("name", s.name);
    io.text("device", s.device);
    io.flag("calibrated", s.calibrated);
    io.section("dram", s.dram, [](auto& in, auto& d) {
      in.number("datasheet_bytes_per_s", d.datasheet_bytes_per_s, bandwidth);
      in.number("achieved_bytes_per_s", d.achieved_bytes_per_s, bandwidth);
      in.number("capacity_bytes", d.capacity_bytes, {1e6, 1e15});
      in.number("spread", d.spread, relative, yaml::Presence::optional);
    });
    io.section("peak_flops", s.peak_flops, [](auto& in, auto& p) {
      in.number("bf16", p.bf16, {1e6, 1e18});
      in.number("fp8", p.fp8, {0, 1e18}, yaml::Presence::optional);
      in.number("fp4", p.fp4, {0, 1e18}, yaml::Presence::optional);
      in.number("core_clock_hz", p.core_clock_hz, {0, 1e12}, yaml::Presence::optional);
      in.number("spread", p.spread, relative, yaml::Presence::optional);
    });
    io.number("board_watts", s.board_watts, {0, 1e6}, yaml::Presence::optional);
    io.number("sms", s.sms, {1, 1e5});
    io.section("link", s.link, [](auto& in, auto& l) {
      in.number("bytes_per_s", l.bytes_per_s, bandwidth);
      in.number("domain", l.domain, {1, 1e6});
      in.number("beyond_bytes_per_s", l.beyond_bytes_per_s, bandwidth);
      in.number("beyond_latency_us", l.beyond_latency_us, time_us);
    });
    io.list("kernels", s.kernels, [](auto& in, auto& r) {
      in.choice("family", r.family, families);
      in.choice("dtype", r.dtype, dtypes);
      in.number("fixed_us", r.fixed_us, time_us);
      in.number("bytes_per_s", r.bytes_per_s, measured_rate);
      in.number("flops_per_s", r.flops_per_s, measured_rate);
      in.number("norm", r.norm, {1, 100}, yaml::Presence::optional);
      in.number("spread", r.spread, relative, yaml::Presence::optional);
    });
    io.list("collectives", s.collectives, [](auto& in, auto& r) {
      in.choice("op", r.op, collective_ops);
      in.integer("group", r.group, {2, 1e6});
      in.number("alpha_us", r.alpha_us, time_us);
      in.number("bytes_per_s", r.bytes_per_s, measured_rate);
      in.number("spread", r.spread, relative, yaml::Presence::optional);
    });
    io.texts("origin", s.origin);
  }
};

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

const EmbeddedFile* find_built_in(std::string_view name) {
  for (const EmbeddedFile& file : embedded_systems()) {
    if (file.name == lower(name)) return &file;
  }
  return nullptr;
}

std::string known_systems() {
  std::string list;
  for (const std::string& s : built_in_systems()) list += (list.empty() ? "" : ", ") + s;
  return list;
}

/// `based_on` names a built-in system whose figures hold where the file does not say otherwise.
SystemSpec read_system(const YAML::Node& root, const std::string& source) {
  const bool derived = root.IsMap() && root["based_on"];
  SystemSpec s;
  yaml::MapReader io(root, source, derived);
  if (derived) {
    std::string base;
    io.text("based_on", base);
    const EmbeddedFile* file = find_built_in(base);
    if (!file)
      throw UsageError(fmt::format("{}: based_on '{}'; valid: {}", source, excerpt(base), known_systems()));
    s = parse_system(file->text, std::string(file->name));
  }
  DescribeSystem{}(io, s);
  if (io.has("gpu") || s.gpu) {
    GpuKernels gpu = s.gpu ? *s.gpu : GpuKernels{};
    io.section("gpu", gpu, DescribeGpu{});
    if (gpu.mla.tiles.empty()) throw UsageError(source + ": gpu: mla: 'tiles' is missing");
    if (gpu.gqa.empty()) throw UsageError(source + ": gpu: 'gqa' is missing");
    s.gpu = std::make_shared<const GpuKernels>(std::move(gpu));
  }
  io.refuse_unknown();
  return s;
}

}  // namespace

std::string_view name(KernelFamily family) {
  return families[static_cast<std::size_t>(family)].second;
}

std::string_view name(Collective op) {
  return collective_ops[static_cast<std::size_t>(op)].second;
}

std::string_view name(KernelFormat format) {
  return kernel_formats[static_cast<std::size_t>(format)].second;
}

std::string_view name(MoeKernel kernel) {
  return moe_kernels[static_cast<std::size_t>(kernel)].second;
}

SystemSpec parse_system(std::string_view text, const std::string& source) {
  try {
    return read_system(parse_yaml(text, source), source);
  } catch (const YAML::Exception& e) {
    throw UsageError(fmt::format("{}: not a YAML system file ({})", source, excerpt(e.what())));
  }
}

SystemSpec load_system(const std::string& name_or_path) {
  if (const EmbeddedFile* file = find_built_in(name_or_path)) {
    return parse_system(file->text, std::string(file->name));
  }
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(name_or_path, ignored)) {
    throw UsageError(fmt::format("unknown system '{}'; valid: a YAML file or one of {}{}",
                                 excerpt(name_or_path), known_systems(),
                                 did_you_mean(name_or_path, built_in_systems())));
  }
  return parse_system(read_text_file(name_or_path, "system file"), name_or_path);
}

std::string to_yaml(const SystemSpec& s) {
  YAML::Emitter out;
  yaml::MapWriter io(out);
  out << YAML::BeginMap;
  DescribeSystem{}(io, s);
  if (s.gpu) io.section("gpu", *s.gpu, DescribeGpu{});
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::vector<std::string> built_in_systems() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_systems()) names.emplace_back(file.name);
  return names;
}

}  // namespace helix
