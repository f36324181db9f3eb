#include "roofline/system_spec.hpp"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "roofline/embedded.hpp"
#include "roofline/error.hpp"

namespace helix {
namespace {

constexpr std::array families = {
    std::pair{KernelFamily::gemm, std::string_view("gemm")},
    std::pair{KernelFamily::gqa_attention, std::string_view("gqa_attention")},
    std::pair{KernelFamily::mla_attention, std::string_view("mla_attention")},
    std::pair{KernelFamily::moe, std::string_view("moe")},
    std::pair{KernelFamily::elementwise, std::string_view("elementwise")},
};

constexpr std::array collectives = {
    std::pair{Collective::all_reduce, std::string_view("all_reduce")},
    std::pair{Collective::all_gather, std::string_view("all_gather")},
    std::pair{Collective::reduce_scatter, std::string_view("reduce_scatter")},
    std::pair{Collective::all_to_all, std::string_view("all_to_all")},
    std::pair{Collective::send, std::string_view("send")},
};

template <class Table>
std::string choices(const Table& table) {
  std::string list;
  for (const auto& [value, text] : table) list += (list.empty() ? "" : ", ") + std::string(text);
  return list;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// What a number may be; anything outside is a mistake of units or a typo.
struct Limits {
  double low, high;
};
constexpr Limits bandwidth{1e6, 1e15};  // bytes/s
constexpr Limits flop_rate{0, 1e18};    // 0: the device lacks the type
constexpr Limits time_us{0, 1e6};
constexpr Limits ranks{1, 1e6};

/// Reads one YAML map: every key must be asked for, and what is asked for and not optional must be there.
class MapReader {
 public:
  MapReader(const YAML::Node& node, std::string where) : node_(node), where_(std::move(where)) {
    if (!node_.IsMap()) throw UsageError(fmt::format("{}: expected a map", where_));
  }

  void number(const char* key, double& value, Limits limits, bool required = true) {
    const YAML::Node n = get(key, required);
    if (!n) return;
    try {
      value = n.as<double>();
    } catch (const YAML::Exception&) {
      throw UsageError(fmt::format("{}: '{}' must be a number", where_, key));
    }
    if (!(value >= limits.low && value <= limits.high)) {
      throw UsageError(
          fmt::format("{}: {} = {:g} is outside [{:g}, {:g}]", where_, key, value, limits.low, limits.high));
    }
  }

  void integer(const char* key, int& value, Limits limits) {
    double number_value = value;
    number(key, number_value, limits);
    if (number_value != std::floor(number_value)) {
      throw UsageError(fmt::format("{}: '{}' must be an integer", where_, key));
    }
    value = static_cast<int>(number_value);
  }

  void text(const char* key, std::string& value, bool required = true) {
    if (const YAML::Node n = get(key, required)) {
      if (!n.IsScalar()) throw UsageError(fmt::format("{}: '{}' must be a text", where_, key));
      value = n.Scalar();
    }
  }

  void flag(const char* key, bool& value) {
    const YAML::Node n = get(key, false);
    if (!n) return;
    try {
      value = n.as<bool>();
    } catch (const YAML::Exception&) {
      throw UsageError(fmt::format("{}: '{}' must be true or false", where_, key));
    }
  }

  template <class Table, class Value>
  void choice(const char* key, Value& value, const Table& table) {
    std::string chosen;
    text(key, chosen);
    for (const auto& [candidate, candidate_name] : table) {
      if (candidate_name == chosen) {
        value = candidate;
        return;
      }
    }
    throw UsageError(fmt::format("{}: unknown {} '{}'; valid: {}", where_, key, chosen, choices(table)));
  }

  YAML::Node get(const char* key, bool required) {
    asked_.insert(key);
    YAML::Node n = node_[key];
    if (!n && required) throw UsageError(fmt::format("{}: '{}' is missing", where_, key));
    return n;
  }

  MapReader section(const char* key) { return {get(key, true), fmt::format("{}: {}", where_, key)}; }

  template <class Read>
  void list(const char* key, Read read) {
    const YAML::Node n = get(key, false);
    if (!n) return;
    if (!n.IsSequence()) throw UsageError(fmt::format("{}: '{}' must be a list", where_, key));
    for (std::size_t i = 0; i < n.size(); ++i) {
      MapReader entry(n[i], fmt::format("{}: {}[{}]", where_, key, i));
      read(entry);
      entry.refuse_unknown();
    }
  }

  void refuse_unknown() const {
    for (const auto& entry : node_) {
      const std::string key = entry.first.as<std::string>("?");
      if (asked_.contains(key)) continue;
      std::string valid;
      for (const std::string& k : asked_) valid += (valid.empty() ? "" : ", ") + k;
      throw UsageError(fmt::format("{}: unknown key '{}'; valid: {}", where_, key, valid));
    }
  }

 private:
  YAML::Node node_;
  std::string where_;
  std::set<std::string> asked_;
};

/// The same fields in the same order, written.
class MapWriter {
 public:
  explicit MapWriter(YAML::Emitter& out) : out_(out) {}
  void number(const char* key, double value, Limits, bool = true) {
    out_ << YAML::Key << key << YAML::Value << fmt::format("{:.17g}", value);
  }
  void integer(const char* key, int value, Limits) { out_ << YAML::Key << key << YAML::Value << value; }
  template <class Table, class Value>
  void choice(const char* key, Value value, const Table& table) {
    for (const auto& [candidate, text] : table) {
      if (candidate == value) out_ << YAML::Key << key << YAML::Value << std::string(text);
    }
  }

 private:
  YAML::Emitter& out_;
};

constexpr std::array dtypes = {
    std::pair{DType::bf16, std::string_view("bf16")}, std::pair{DType::fp8, std::string_view("fp8")},
    std::pair{DType::nvfp4, std::string_view("nvfp4")}, std::pair{DType::fp4, std::string_view("fp4")}};

// One description of each section serves reading and writing.
template <class Io, class Dram>
void describe_dram(Io& io, Dram& d) {
  io.number("datasheet_bytes_per_s", d.datasheet_bytes_per_s, bandwidth);
  io.number("achieved_bytes_per_s", d.achieved_bytes_per_s, bandwidth);
  io.number("capacity_bytes", d.capacity_bytes, {1e6, 1e15});
}

template <class Io, class Peaks>
void describe_peaks(Io& io, Peaks& p) {
  io.number("bf16", p.bf16, {1e6, 1e18});
  io.number("fp8", p.fp8, flop_rate, false);
  io.number("fp4", p.fp4, flop_rate, false);
}

template <class Io, class Link>
void describe_link(Io& io, Link& l) {
  io.number("bytes_per_s", l.bytes_per_s, bandwidth);
  io.number("domain", l.domain, ranks);
  io.number("beyond_bytes_per_s", l.beyond_bytes_per_s, bandwidth);
  io.number("beyond_latency_us", l.beyond_latency_us, time_us);
}

template <class Io, class Rate>
void describe_kernel(Io& io, Rate& r) {
  io.choice("family", r.family, families);
  io.choice("dtype", r.dtype, dtypes);
  io.number("fixed_us", r.fixed_us, time_us);
  io.number("bytes_per_s", r.bytes_per_s, bandwidth);
  io.number("flops_per_s", r.flops_per_s, {1e6, 1e18});
  io.number("norm", r.norm, {1, 100}, false);
}

template <class Io, class Rate>
void describe_collective(Io& io, Rate& r) {
  io.choice("op", r.op, collectives);
  io.integer("group", r.group, {2, 1e6});
  io.number("alpha_us", r.alpha_us, time_us);
  io.number("bytes_per_s", r.bytes_per_s, bandwidth);
}

SystemSpec read_system(const YAML::Node& root, const std::string& source) {
  SystemSpec s;
  MapReader top(root, source);
  top.text("name", s.name);
  top.text("device", s.device);
  top.flag("calibrated", s.calibrated);
  const auto section = [&](const char* key, auto read) {
    MapReader io = top.section(key);
    read(io);
    io.refuse_unknown();
  };
  section("dram", [&](MapReader& io) { describe_dram(io, s.dram); });
  section("peak_flops", [&](MapReader& io) { describe_peaks(io, s.peak_flops); });
  top.number("sms", s.sms, {1, 1e5});
  section("link", [&](MapReader& io) { describe_link(io, s.link); });
  top.list("kernels", [&](MapReader& io) { describe_kernel(io, s.kernels.emplace_back()); });
  top.list("collectives", [&](MapReader& io) { describe_collective(io, s.collectives.emplace_back()); });
  if (const YAML::Node origin = top.get("origin", false)) {
    if (!origin.IsMap())
      throw UsageError(fmt::format("{}: 'origin' must map sections to their sources", source));
    for (const auto& entry : origin)
      s.origin[entry.first.as<std::string>("")] = entry.second.as<std::string>("");
  }
  top.refuse_unknown();
  return s;
}

}  // namespace

std::string_view name(KernelFamily family) {
  return families[static_cast<std::size_t>(family)].second;
}

std::string_view name(Collective op) {
  return collectives[static_cast<std::size_t>(op)].second;
}

SystemSpec parse_system(std::string_view yaml, const std::string& source) {
  try {
    return read_system(YAML::Load(std::string(yaml)), source);
  } catch (const YAML::Exception& e) {
    throw UsageError(fmt::format("{}: not a YAML system file ({})", source, e.what()));
  }
}

SystemSpec load_system(const std::string& name_or_path) {
  for (const EmbeddedFile& file : embedded_systems()) {
    if (file.name == lower(name_or_path)) return parse_system(file.text, std::string(file.name));
  }
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(name_or_path, ignored)) {
    std::string known;
    for (const std::string& s : built_in_systems()) known += (known.empty() ? "" : ", ") + s;
    throw UsageError(
        fmt::format("unknown system '{}'; valid: a YAML file or one of {}", name_or_path, known));
  }
  std::ifstream in(name_or_path);
  std::ostringstream text;
  if (!(text << in.rdbuf())) throw UsageError(fmt::format("cannot read system file '{}'", name_or_path));
  return parse_system(text.str(), name_or_path);
}

std::string to_yaml(const SystemSpec& s) {
  YAML::Emitter out;
  MapWriter io(out);
  const auto key = [&](const char* k) { out << YAML::Key << k << YAML::Value; };
  const auto section = [&](const char* k, auto write) {
    key(k);
    out << YAML::BeginMap;
    write();
    out << YAML::EndMap;
  };
  const auto list = [&](const char* k, const auto& entries, auto write) {
    if (entries.empty()) return;
    key(k);
    out << YAML::BeginSeq;
    for (const auto& entry : entries) {
      out << YAML::Flow << YAML::BeginMap;
      write(entry);
      out << YAML::EndMap;
    }
    out << YAML::EndSeq;
  };
  out << YAML::BeginMap;
  key("name");
  out << YAML::DoubleQuoted << s.name;
  key("device");
  out << YAML::DoubleQuoted << s.device;
  key("calibrated");
  out << s.calibrated;
  section("dram", [&] { describe_dram(io, s.dram); });
  section("peak_flops", [&] { describe_peaks(io, s.peak_flops); });
  io.number("sms", s.sms, ranks);
  section("link", [&] { describe_link(io, s.link); });
  list("kernels", s.kernels, [&](const KernelRate& r) { describe_kernel(io, r); });
  list("collectives", s.collectives, [&](const CollectiveRate& r) { describe_collective(io, r); });
  if (!s.origin.empty()) {
    section("origin", [&] {
      for (const auto& [k, v] : s.origin) out << YAML::Key << k << YAML::Value << YAML::DoubleQuoted << v;
    });
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::vector<std::string> built_in_systems() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_systems()) names.emplace_back(file.name);
  return names;
}

}  // namespace helix
