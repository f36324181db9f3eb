#include "roofline/validate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>

#include "roofline/csv.hpp"
#include "roofline/error.hpp"
#include "roofline/excerpt.hpp"
#include "roofline/gpu_cost.hpp"
#include "roofline/statistics.hpp"
#include "roofline/system_spec.hpp"

namespace helix {
namespace {

/// One row by column name.
class Row {
 public:
  Row(const std::unordered_map<std::string, std::size_t>& columns, const std::vector<std::string>& cells,
      std::string where)
      : columns_(columns), cells_(cells), where_(std::move(where)) {}

  const std::string& text(const char* column) const {
    const auto at = columns_.find(column);
    if (at == columns_.end()) throw UsageError(fmt::format("{}: column '{}' is missing", where_, column));
    if (at->second >= cells_.size()) throw UsageError(fmt::format("{}: the row is too short", where_));
    return cells_[at->second];
  }
  double number(const char* column) const {
    const std::string& t = text(column);
    double value = 0;
    const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), value);
    if (error != std::errc{} || end != t.data() + t.size() || !std::isfinite(value) || value < 0) {
      throw UsageError(fmt::format("{}: {} = '{}' is not a number from 0 on", where_, column, excerpt(t)));
    }
    return value;
  }
  std::int64_t count(const char* column) const {
    constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();  // products of two fit 64 bits
    const double value = number(column);
    if (value < 1 || value > most || value != std::floor(value)) {
      throw UsageError(fmt::format("{}: {} = '{}' is not a whole number from 1 to {}", where_, column,
                                   excerpt(text(column)), most));
    }
    return static_cast<std::int64_t>(value);
  }
  bool flag(const char* column) const { return columns_.contains(column) && number(column) != 0; }
  const std::string& where() const { return where_; }

 private:
  const std::unordered_map<std::string, std::size_t>& columns_;
  const std::vector<std::string>& cells_;
  std::string where_;
};

struct Judged {
  std::string family;
  double model_us = 0;
};
struct LeftOut {
  std::string reason;
};
using Verdict = std::variant<Judged, LeftOut>;

constexpr std::int64_t decode_tokens = 256, decode_context = 1024;

Verdict judge_attention(const Row& row, const SystemSpec& system) {
  const bool mla = row.text("op") == "mla_decode";
  const std::int64_t tokens = row.count("context_len_tokens");
  if (tokens < decode_context) return LeftOut{"context below 1024"};
  if (row.flag("slow_mmha_fallback")) return LeftOut{"slow_mmha_fallback"};
  const double kv_bytes = row.number("kv_bytes");
  AttentionShape s{.kind = mla ? AttentionKind::mla : AttentionKind::gqa,
                   .batch = row.count("batch"),
                   .q_heads = row.count(mla ? "local_q_heads" : "q_heads"),
                   .kv_heads = mla ? 1 : row.count("kv_heads"),
                   .head_dim = row.count(mla ? "kv_dim" : "head_dim"),
                   .v_dim = row.count(mla ? "v_dim" : "head_dim"),
                   .tokens = tokens};
  if (!mla) return Judged{"gqa_decode", gqa_time(system, s, kv_bytes, Setting::benchmark_loop).total_us};
  const bool fp8 = row.text("kv_dtype") == "fp8";
  return Judged{"mla_decode", mla_time(system, s, kv_bytes, fp8, Setting::benchmark_loop).total_us};
}

Verdict judge_gemm(const Row& row, const SystemSpec& system) {
  const std::string& dtype = row.text("gemm_dtype");
  const GemmShape s{.m = row.count("m"), .n = row.count("n"), .k = row.count("k")};
  if (s.m > decode_tokens) return LeftOut{"m above 256"};
  const double bytes = row.number("weight_bytes_incl_scales");
  for (const GpuGemm& g : system.gpu->gemm) {
    if (g.dtype != dtype) continue;
    return Judged{"gemm_" + dtype, gemm_time(system, g, s, bytes, Setting::benchmark_loop).total_us};
  }
  return LeftOut{"no such GEMM in the system: " + dtype};
}

Verdict judge_moe(const Row& row, const SystemSpec& system) {
  const std::string& kernel = row.text("kernel");
  const std::string& dtype = row.text("moe_dtype");
  const std::int64_t experts = row.count("num_experts"), ep = row.count("moe_ep"), tp = row.count("moe_tp");
  if (row.count("num_tokens") > decode_tokens) return LeftOut{"more than 256 tokens"};
  const MoeShape s{.tokens = row.count("num_tokens"),
                   .hidden = row.count("hidden"),
                   .ffn = row.count("inter") / tp,
                   .local_experts = experts / ep,
                   .active_experts = row.number("rank0_active_experts_est"),
                   .pairs = row.number("rank0_token_expert_pairs_est")};
  const double bytes = s.active_experts * row.number("bytes_per_local_expert");
  for (const GpuMoe& g : system.gpu->moe) {
    if (g.kernel != kernel || g.dtype != dtype) continue;
    return Judged{"moe_" + kernel, moe_time(system, g, s, bytes, Setting::benchmark_loop).total_us};
  }
  return LeftOut{"no such MoE kernel in the system: " + kernel + " " + dtype};
}

Verdict judge_collective(const Row& row, const SystemSpec& system) {
  const std::string& op = row.text("op");
  CollectiveShape s{.group = static_cast<int>(row.count("gpus")),
                    .payload_bytes = row.number("buffer_bytes_nccl_tests_convention")};
  if (op == "trtllm_custom_all_reduce") return Judged{op, one_shot_us(system, s)};
  if (op == "nccl_all_gather") s.op = Collective::all_gather;
  if (op == "nccl_reduce_scatter") s.op = Collective::reduce_scatter;
  if (op == "nccl_alltoall") s.op = Collective::all_to_all;
  return Judged{op, library_collective_us(system, s)};
}

Verdict judge(const Row& row, const SystemSpec& system) {
  const std::string& op = row.text("op");
  if (op == "gqa_decode" || op == "mla_decode") return judge_attention(row, system);
  if (op == "gemm") return judge_gemm(row, system);
  if (op == "moe") return judge_moe(row, system);
  for (const char* collective : {"nccl_all_reduce", "nccl_all_gather", "nccl_reduce_scatter", "nccl_alltoall",
                                 "trtllm_custom_all_reduce"}) {
    if (op == collective) return judge_collective(row, system);
  }
  throw UsageError(fmt::format(
      "{}: unknown op '{}'; valid: gqa_decode, mla_decode, gemm, moe, nccl_all_reduce, nccl_all_gather, "
      "nccl_reduce_scatter, nccl_alltoall, trtllm_custom_all_reduce",
      row.where(), excerpt(op)));
}

/// The built-in GPU whose name the device starts with, letters and digits only: GB200_NVL72 is a gb200.
SystemSpec system_of_device(const std::string& device, const std::string& where) {
  const auto plain = [](std::string_view text) {
    std::string out;
    for (const unsigned char c : text) {
      if (std::isalnum(c)) out += static_cast<char>(std::tolower(c));
    }
    return out;
  };
  const std::string wanted = plain(device);
  std::string best, known;
  for (const std::string& name : built_in_systems()) {
    known += (known.empty() ? "" : ", ") + name;
    const std::size_t at = wanted.find(plain(name));
    // "nvidia_b200" and "b200_sxm", but "gb200" is not a b200.
    if (at == std::string::npos || (at > 0 && wanted.substr(0, at) != "nvidia")) continue;
    if (name.size() > best.size()) best = name;
  }
  if (best.empty())
    throw UsageError(fmt::format("{}: unknown device '{}'; valid: {}", where, excerpt(device), known));
  return load_system(best);
}

FamilyError summary(const std::string& family, const std::vector<double>& errors) {
  const std::vector<double> ordered = sorted(errors);
  double sum = 0;
  for (const double e : ordered) sum += e;
  return {.family = family,
          .rows = ordered.size(),
          .mdape = median_of_sorted(ordered),
          .mape = sum / static_cast<double>(ordered.size()),
          .p90 = quantile(ordered, 0.9)};
}

}  // namespace

Validation validate(std::istream& csv, const std::string& source) {
  CsvReader reader(csv, source, CsvReader::LastLine::may_lack_end);
  CsvRecord cells;
  if (!reader.next(cells)) throw UsageError(fmt::format("'{}' is empty", source));
  std::unordered_map<std::string, std::size_t> columns;
  for (const std::string& column : cells) columns.emplace(column, columns.size());
  for (const char* needed : {"op", "device", "latency_us"}) {
    if (!columns.contains(needed)) {
      throw UsageError(
          fmt::format("'{}' has no column '{}': it is no CSV of measured kernels", source, needed));
    }
  }

  Validation result;
  std::map<std::string, SystemSpec> systems;
  std::map<std::string, std::vector<double>> errors;
  while (reader.next(cells)) {
    if (cells.size() == 1 && cells.front().empty()) continue;  // an empty line
    const Row row(columns, cells, fmt::format("{}:{}", source, reader.line()));
    const std::string& device = row.text("device");
    auto system = systems.find(device);
    if (system == systems.end()) {
      system = systems.emplace(device, system_of_device(device, row.where())).first;
    }
    const double measured = row.number("latency_us");
    if (measured <= 0) throw UsageError(fmt::format("{}: latency_us must be positive", row.where()));
    const Verdict verdict = judge(row, system->second);
    if (const auto* judged = std::get_if<Judged>(&verdict)) {
      const double error = std::abs(judged->model_us / measured - 1) * 100;
      if (!std::isfinite(error))
        throw UsageError(fmt::format("{}: no kernel has these figures", row.where()));
      errors[judged->family].push_back(error);
    } else {
      ++result.left_out[std::get<LeftOut>(verdict).reason];
    }
  }
  for (const auto& [family, list] : errors) result.families.push_back(summary(family, list));
  if (result.families.empty() && result.left_out.empty()) {
    throw UsageError(fmt::format("'{}' has columns, but no measured kernel", source));
  }
  return result;
}

Validation validate(const std::string& path) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open() || std::filesystem::is_directory(path, ignored)) {
    throw UsageError(fmt::format("cannot read the CSV file of measured kernels '{}'", path));
  }
  return validate(file, path);
}

}  // namespace helix
