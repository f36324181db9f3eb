#include "sweeps/trtllm_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "roofline/error.hpp"
#include "roofline/text_file.hpp"
#include "sweeps/deployment.hpp"
#include "sweeps/yaml_file.hpp"

namespace helix {
namespace {

constexpr std::string_view engine = "TensorRT-LLM";

std::string quoted_scalar(const YAML::Node& node) {
  return node.IsDefined() && node.IsScalar() ? fmt::format("'{}'", node.Scalar()) : "missing";
}

/// The keys of a configuration that say how it is spread.
class Reader {
 public:
  Reader(std::string_view yaml, const std::string& origin)
      : origin_(origin), root_(parse_yaml_map(yaml, origin)) {}

  void read(SweepSpace& space) const {
    const YAML::Node cp = section("cp_config");
    const std::int64_t kvp = number(root_, "context_parallel_size", 1);
    // Without context parallelism there is no cp_type to ask for.
    const bool sharded = cp.size() > 0 || kvp > 1 || !root_["tensor_parallel_size"].IsDefined();
    if (sharded) require_helix(cp["cp_type"]);
    read_cache(cp, space);
    read_widths(kvp, sharded, space);
  }

 private:
  YAML::Node section(const char* key) const {
    const YAML::Node node = root_[key];
    if (node.IsDefined() && !node.IsMap()) fail(fmt::format("{} is not a mapping", key));
    return node.IsDefined() ? node : YAML::Node(YAML::NodeType::Map);
  }

  std::int64_t number(const YAML::Node& map, const char* key, std::int64_t if_missing,
                      const Quantity& quantity = rank_count) const {
    const YAML::Node node = map[key];
    if (!node.IsDefined()) return if_missing;
    const std::string where = fmt::format("{}: {}", origin_, key);
    if (!node.IsScalar()) throw UsageError(fmt::format("{}: not a number", where));
    return parse_count(node.Scalar(), quantity, where);
  }

  void require_helix(const YAML::Node& cp_type) const {
    std::string type = cp_type.IsDefined() && cp_type.IsScalar() ? cp_type.Scalar() : "";
    std::ranges::transform(type, type.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    if (type != "HELIX") {
      fail(fmt::format("cp_config.cp_type is {}, valid is 'HELIX'", quoted_scalar(cp_type)));
    }
  }

  void read_cache(const YAML::Node& cp, SweepSpace& space) const {
    const YAML::Node cache = section("kv_cache_config");
    const bool in_cp = cp["tokens_per_block"].IsDefined();
    const std::int64_t of_cp = number(cp, "tokens_per_block", space.tokens_per_block, block_tokens);
    const std::int64_t of_cache = number(cache, "tokens_per_block", of_cp, block_tokens);
    if (of_cache != of_cp && cp.size() > 0) {
      fail(fmt::format(
          "cp_config.tokens_per_block is {}{} and kv_cache_config.tokens_per_block is {}; they must "
          "be equal",
          of_cp, in_cp ? "" : " (the default)", of_cache));
    }
    space.tokens_per_block = of_cache;
    const YAML::Node dtype = cache["dtype"];
    if (!dtype.IsDefined() || (dtype.IsScalar() && dtype.Scalar() == "auto")) return;
    if (quoted_scalar(dtype) != "'fp8'" && quoted_scalar(dtype) != "'nvfp4'") {
      fail(fmt::format("kv_cache_config.dtype is {}; valid are auto, fp8, nvfp4", quoted_scalar(dtype)));
    }
    space.kv_dtypes = {parse_dtype(dtype.Scalar())};
  }

  void read_widths(std::int64_t kvp, bool sharded, SweepSpace& space) const {
    const auto listed = [&](const char* key, Choice& choice, std::int64_t value) {
      if (root_[key].IsDefined()) choice = {Choice::Kind::listed, {value}};
    };
    const std::int64_t tp = number(root_, "tensor_parallel_size", 1);
    const std::int64_t ep = number(root_, "moe_expert_parallel_size", 1);
    const std::int64_t pp = number(root_, "pipeline_parallel_size", 1);
    listed("context_parallel_size", space.kvp, kvp);
    listed("moe_expert_parallel_size", space.ep, ep);
    listed("pipeline_parallel_size", space.pp, pp);
    const YAML::Node attention_dp = root_["enable_attention_dp"];
    const bool dp = attention_dp.IsDefined() && attention_dp.as<bool>(false);
    if (dp) {  // the ranks of tensor_parallel_size serve requests of their own
      space.tpa = {Choice::Kind::listed, {1}};
      space.dp = {Choice::Kind::listed, {tp}};
    } else {
      listed("tensor_parallel_size", space.tpa, tp);
    }
    if (sharded) {
      space.strategies = {Strategy::helix};
    } else if (dp) {
      space.strategies = {ep == tp && pp == 1 ? Strategy::dp_ep : Strategy::helix};
      space.kvp = {Choice::Kind::listed, {1}};
    } else {
      space.strategies = {pp > 1 ? Strategy::tp_pp : Strategy::tp};
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw UsageError(fmt::format("{}: {}", origin_, what));
  }

  const std::string& origin_;
  YAML::Node root_;
};

/// What the keys cannot say, as comments.
std::string notes(const ResultRow& row, const std::optional<ModelSpec>& model) {
  const Sharding& s = row.config.sharding;
  const DecodeShape& shape = row.config.shape;
  std::string text;
  if (s.kvp > 1) {
    text += "# Helix is for generation servers of a disaggregated deployment.\n";
    text += "# Where all GPUs share NVLink, cp_config.use_nccl_for_alltoall: false is faster.\n";
    if (model && model->attention.kind != AttentionKind::mla) {
      text += fmt::format("# Documented for MLA models; {} has GQA: try whether your version runs it.\n",
                          model->name);
    }
  }
  if (shape.hop_b > 1) {
    text += fmt::format(
        "# HOP-B is not in TensorRT-LLM: the figures above have {} micro-batches, expect those of "
        "hop_b = 1.\n",
        shape.hop_b);
  }
  if (shape.kv_dtype == DType::fp4) {
    text += "# The figures above count 0.5 bytes per KV value; nvfp4 takes 0.5625.\n";
  }
  return text;
}

}  // namespace

void parse_trtllm_config(std::string_view yaml, const std::string& origin, SweepSpace& space) {
  Reader(yaml, origin).read(space);
}

void load_trtllm_config(const std::string& path, SweepSpace& space) {
  parse_trtllm_config(read_text_file(path, "TensorRT-LLM configuration"), path, space);
}

std::string trtllm_config(const ResultRow& row) {
  const Sharding& s = row.config.sharding;
  const DecodeShape& shape = row.config.shape;
  if (row.config.strategy == Strategy::medha) {
    throw not_deployable(engine, row,
                         "it has no FFN that leaves the KVP ranks idle; valid: points of other strategies");
  }
  if (s.dp > 1 && s.tpa > 1) {
    throw not_deployable(
        engine, row,
        fmt::format("its attention data parallelism takes all ranks of tensor_parallel_size, so DP {} "
                    "and TPA {} exclude each other; valid: points with DP = 1 or TPA = 1",
                    s.dp, s.tpa));
  }
  const std::optional<ModelSpec> model = model_of(row);
  YAML::Emitter out;
  out << YAML::BeginMap;
  const auto entry = [&](const char* key, const auto& value) {
    out << YAML::Key << key << YAML::Value << value;
  };
  entry("tensor_parallel_size", s.dp > 1 ? s.dp : s.tpa);
  if (s.dp > 1) entry("enable_attention_dp", true);
  if (s.kvp > 1) entry("context_parallel_size", s.kvp);
  entry("pipeline_parallel_size", s.pp);
  if (!model || model->moe.experts > 0) entry("moe_expert_parallel_size", s.ep);
  if (s.kvp > 1) {
    out << YAML::Key << "cp_config" << YAML::Value << YAML::BeginMap;
    entry("cp_type", "HELIX");
    entry("tokens_per_block", shape.tokens_per_block);
    out << YAML::EndMap;
  }
  out << YAML::Key << "kv_cache_config" << YAML::Value << YAML::BeginMap;
  entry("tokens_per_block", shape.tokens_per_block);
  if (shape.kv_dtype == DType::bf16)
    entry("dtype", "auto");
  else
    entry("dtype", shape.kv_dtype == DType::fp8 ? "fp8" : "nvfp4");
  out << YAML::EndMap;
  entry("max_batch_size", (shape.batch + s.dp - 1) / s.dp);  // of each rank with attention data parallelism
  out << YAML::EndMap;
  return deployment_header(row) + notes(row, model) + out.c_str() + '\n';
}

}  // namespace helix
