// Reads TensorRT-LLM's configurations: key names and defaults are those of its LLM arguments (llm_args.py),
// of its rank mapping (mapping.py) and of its disaggregated deployments (disagg_utils.py), 1.2 to 1.3.
#include "sweeps/export/trtllm_config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <set>
#include <sstream>
#include <system_error>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/base/yaml_file.hpp"

namespace helix {
namespace {

constexpr std::array cp_keys = {"cp_type",      "tokens_per_block", "use_nccl_for_alltoall",
                                "fifo_version", "cp_anchor_size",   "block_size"};
/// Of a disaggregated deployment: where servers run and how requests find them. All other keys beside
/// generation_servers belong to every server.
constexpr std::array orchestration_keys = {"hostname",
                                           "port",
                                           "max_retries",
                                           "perf_metrics_max_requests",
                                           "return_perf_metrics",
                                           "perf_metrics_output_dir",
                                           "context_servers",
                                           "generation_servers",
                                           "conditional_disagg_config",
                                           "otlp_config",
                                           "disagg_cluster",
                                           "node_id",
                                           "schedule_style",
                                           "allow_request_chat_template",
                                           "gen_strip_message_history",
                                           "gen_tokids_ctxbytes",
                                           "num_workers",
                                           "disagg_coordinator_url"};
constexpr std::array server_keys = {"urls", "router"};
constexpr Quantity expert_slots{1, 1 << 15};

bool contains(const auto& keys, const std::string& key) {
  return std::ranges::find(keys, key) != keys.end();
}

bool is_given(const YAML::Node& node) {
  return node.IsDefined() && !node.IsNull();
}

std::string quoted_scalar(const YAML::Node& node) {
  return is_given(node) && node.IsScalar() ? fmt::format("'{}'", excerpt(node.Scalar())) : "missing";
}

std::string upper(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

/// A mapping of a configuration, which knows what has been read of it. Keys that are null are absent.
class Section {
 public:
  /// `name`: "" or "cp_config." and the like.
  Section(YAML::Node map, const std::string& origin, std::string name)
      : map_(std::move(map)), origin_(origin), name_(std::move(name)) {}

  YAML::Node find(const std::string& key) {
    read_.insert(key);
    const YAML::Node& map = map_;  // the operator of a const node adds no key
    return map[key];
  }
  /// The same, but the key stays unread.
  YAML::Node peek(const std::string& key) const { return map_[key]; }
  bool has(const std::string& key) { return is_given(find(key)); }

  Section section(const std::string& key) {
    const YAML::Node node = find(key);
    if (is_given(node) && !node.IsMap()) fail(fmt::format("{} is not a mapping", key));
    return {is_given(node) ? node : YAML::Node(YAML::NodeType::Map), origin_, name_ + key + "."};
  }

  std::int64_t number(const std::string& key, std::int64_t if_missing, const Quantity& quantity) {
    const YAML::Node node = find(key);
    if (!is_given(node)) return if_missing;
    const std::string where = fmt::format("{}: {}{}", origin_, name_, key);
    if (!node.IsScalar()) throw UsageError(fmt::format("{}: not a number", where));
    return parse_count(node.Scalar(), quantity, where);
  }

  bool flag(const std::string& key, bool if_missing) {
    const YAML::Node node = find(key);
    if (!is_given(node)) return if_missing;
    bool value = false;
    if (node.IsScalar() && YAML::convert<bool>::decode(node, value)) return value;
    fail(fmt::format("{}{} is {}, valid are true and false", name_, key,
                     node.IsScalar() ? fmt::format("'{}'", excerpt(node.Scalar())) : "no scalar"));
  }

  std::vector<std::string> keys() const {
    std::vector<std::string> all;
    for (const auto& entry : map_) {
      if (!entry.first.IsScalar()) fail("a key is no plain word");
      all.push_back(entry.first.Scalar());
    }
    return all;
  }

  /// Those of the keys that nobody asked for.
  void add_unread(std::vector<std::string>& unread) const {
    for (const std::string& key : keys()) {
      if (!read_.contains(key)) unread.push_back(name_ + key);
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw UsageError(fmt::format("{}: {}", origin_, what));
  }

 private:
  YAML::Node map_;
  const std::string& origin_;
  std::string name_;
  std::set<std::string> read_;
};

/// Of a disaggregated deployment what its generation servers get, else the whole file.
YAML::Node generation_server(const YAML::Node& root, const std::string& origin) {
  Section file(root, origin, "");
  if (file.has("worker_config")) {  // of the scripts that launch both kinds of servers under Slurm
    Section workers = file.section("worker_config");
    if (!workers.has("gen"))
      file.fail("worker_config.gen is missing: the generation servers are what is read");
    workers.section("gen");
    return workers.find("gen");
  }
  if (!file.has("generation_servers")) {
    if (file.has("context_servers")) {
      file.fail("generation_servers is missing: they are what is read, and context_servers are not");
    }
    return root;
  }
  file.section("generation_servers");
  YAML::Node server;
  for (const auto& entry : file.find("generation_servers")) {
    if (!contains(server_keys, entry.first.as<std::string>(""))) server[entry.first] = entry.second;
  }
  for (const std::string& key : file.keys()) {
    if (contains(orchestration_keys, key)) continue;
    const YAML::Node common = file.find(key), own = server[key];
    if (own.IsDefined() && YAML::Dump(own) != YAML::Dump(common)) {
      file.fail(
          fmt::format("{} is given to all servers and to generation_servers, with different values", key));
    }
    server[key] = common;
  }
  return server;
}

class Reader {
 public:
  Reader(const YAML::Node& server, const std::string& origin)
      : server_(server, origin, ""),
        cp_(server_.section("cp_config")),
        kv_cache_(server_.section("kv_cache_config")),
        moe_(server_.section("moe_config")),
        balancer_(moe_.section("load_balancer")),
        drafts_(server_.section("speculative_config")) {}

  /// Returns the keys that were not read.
  std::vector<std::string> read(SweepSpace& space) {
    tp_ = server_.number("tensor_parallel_size", 1, rank_count);
    cp_size_ = server_.number("context_parallel_size", 1, rank_count);
    pp_ = server_.number("pipeline_parallel_size", 1, rank_count);
    // Data-parallel attention: the ranks of tensor_parallel_size serve requests of their own.
    dp_ = server_.flag("enable_attention_dp", false) ? tp_ : 1;
    check_context_parallelism();
    read_widths(space);
    read_cache(space);
    read_requests(space);
    space.expert_slots = balancer_.number("num_slots", 0, expert_slots);
    std::vector<std::string> unread;
    if (read_drafts(space)) {
      drafts_.add_unread(unread);
    } else if (server_.has("speculative_config")) {
      unread.emplace_back("speculative_config");
    }
    for (const Section* section : {&server_, &cp_, &kv_cache_, &moe_, &balancer_})
      section->add_unread(unread);
    return unread;
  }

 private:
  void check_context_parallelism() {
    for (const std::string& key : cp_.keys()) {
      if (!contains(cp_keys, key)) {
        cp_.fail(fmt::format("cp_config has no key '{}'; valid: {}", key, fmt::join(cp_keys, ", ")));
      }
    }
    const YAML::Node type = cp_.find("cp_type");
    if ((is_given(type) || cp_size_ > 1) &&
        (!is_given(type) || !type.IsScalar() || upper(type.Scalar()) != "HELIX")) {
      cp_.fail(fmt::format("cp_config.cp_type is {}, valid is 'HELIX'", quoted_scalar(type)));
    }
    cp_.flag("use_nccl_for_alltoall", true);
    cp_.number("fifo_version", 2, {1, 2});
  }

  /// Experts are spread over TP x CP ranks: MoE TP x EP x clusters of them. Where one of the two widths is
  /// missing it follows from the other, where both are, EP is 1.
  std::int64_t expert_width() {
    const std::int64_t ranks = tp_ * cp_size_;
    const auto width = [&](const char* key) -> std::int64_t {
      const YAML::Node node = server_.find(key);
      const bool unset = !is_given(node) || (node.IsScalar() && node.Scalar() == "-1");
      return unset ? 0 : server_.number(key, 1, rank_count);
    };
    const std::int64_t ep = width("moe_expert_parallel_size"), moe_tp = width("moe_tensor_parallel_size");
    if (width("moe_cluster_parallel_size") > 1) {
      server_.fail("moe_cluster_parallel_size: clusters of experts are not modelled, valid is 1");
    }
    const std::int64_t resolved_ep = ep > 0 ? ep : moe_tp > 0 ? ranks / moe_tp : 1;
    const std::int64_t resolved_tp = moe_tp > 0 ? moe_tp : ranks / resolved_ep;
    if (resolved_ep * resolved_tp != ranks) {
      const auto text = [](std::int64_t given) { return given > 0 ? fmt::format("{}", given) : "missing"; };
      server_.fail(
          fmt::format("moe_tensor_parallel_size ({}) x moe_expert_parallel_size ({}) cannot be "
                      "tensor_parallel_size ({}) x "
                      "context_parallel_size ({}) = {}",
                      text(moe_tp), text(ep), tp_, cp_size_, ranks));
    }
    return resolved_ep;
  }

  void read_widths(SweepSpace& space) {
    const auto listed = [](Choice& choice, std::int64_t value) { choice = {Choice::Kind::listed, {value}}; };
    const std::int64_t ep = expert_width();
    listed(space.kvp, cp_size_);
    listed(space.tpa, dp_ > 1 ? 1 : tp_);
    listed(space.dp, dp_);
    listed(space.ep, ep);
    listed(space.pp, pp_);
    const bool whole_experts = ep == tp_ && pp_ == 1;
    space.strategies = {cp_size_ > 1 ? Strategy::helix
                        : dp_ > 1    ? (whole_experts ? Strategy::dp_ep : Strategy::helix)
                        : pp_ > 1    ? Strategy::tp_pp
                                     : Strategy::tp};
  }

  void read_cache(SweepSpace& space) {
    const bool in_cp = cp_.has("tokens_per_block");
    const std::int64_t of_cp = cp_.number("tokens_per_block", space.tokens_per_block, block_tokens);
    const std::int64_t of_cache = kv_cache_.number("tokens_per_block", of_cp, block_tokens);
    if (of_cache != of_cp && (in_cp || cp_size_ > 1)) {
      cp_.fail(fmt::format(
          "cp_config.tokens_per_block is {}{} and kv_cache_config.tokens_per_block is {}; they must "
          "be equal",
          of_cp, in_cp ? "" : " (the default)", of_cache));
    }
    space.tokens_per_block = of_cache;
    const YAML::Node dtype = kv_cache_.find("dtype");
    if (!is_given(dtype) || (dtype.IsScalar() && dtype.Scalar() == "auto")) return;
    if (quoted_scalar(dtype) != "'fp8'" && quoted_scalar(dtype) != "'nvfp4'") {
      kv_cache_.fail(
          fmt::format("kv_cache_config.dtype is {}; valid are auto, fp8, nvfp4", quoted_scalar(dtype)));
    }
    space.kv_dtypes = {parse_kv_dtype(dtype.Scalar())};
  }

  /// max_batch_size bounds the requests that a rank works on at a time: with attention data parallelism its
  /// own, with a pipeline those of a micro-batch.
  void read_requests(SweepSpace& space) {
    const std::int64_t at_a_time = server_.number("max_batch_size", 0, batch_requests);
    if (at_a_time > 0) {
      const std::int64_t batch = at_a_time * dp_ * pp_;
      if (batch > batch_requests.largest) {
        server_.fail(
            fmt::format("max_batch_size: {} on {} groups of {} stages, valid are {} requests at most",
                        at_a_time, dp_, pp_, batch_requests.largest));
      }
      space.batches = {Choice::Kind::listed, {batch}};
    }
    const std::int64_t longest = server_.number("max_seq_len", 0, context_tokens);
    if (longest > 0) space.contexts = {Choice::Kind::listed, {longest}};
  }

  /// Of speculative decoding what the model's own draft layers do (MTP), or an Eagle-3 head: the length of their chain.
  /// Under Helix their attention has all ranks for TP, and no all-to-all.
  bool read_drafts(SweepSpace& space) {
    const std::string type = quoted_scalar(drafts_.find("decoding_type"));
    if (type != "'MTP'" && type != "'Eagle3'") return false;
    if (type == "'Eagle3'") read_head(space);
    const std::int64_t former = drafts_.number("num_nextn_predict_layers", 0, drafted_tokens);
    const std::int64_t length = drafts_.number("max_draft_len", former, drafted_tokens);
    if (length > 0) space.draft_tokens = {length};
    if (length > 0 && cp_size_ > 1) space.draft_kv = DraftKv::local;
    return length > 0;
  }

  /// The head's dimensions, where its checkpoint is at hand.
  void read_head(SweepSpace& space) {
    drafts_.flag("eagle3_one_model", true);
    for (const char* key : {"speculative_model", "speculative_model_dir"}) {
      const YAML::Node folder = drafts_.peek(key);
      if (!is_given(folder) || !folder.IsScalar()) continue;
      const std::filesystem::path config = std::filesystem::path(folder.Scalar()) / "config.json";
      std::error_code ignored;
      if (!std::filesystem::is_regular_file(config, ignored)) continue;
      drafts_.find(key);
      space.draft_model = config.string();
    }
  }

  Section server_, cp_, kv_cache_, moe_, balancer_, drafts_;
  std::int64_t tp_ = 1, cp_size_ = 1, pp_ = 1, dp_ = 1;
};

/// The comments of trtllm_config().
void read_own_comments(std::string_view yaml, const std::string& origin, SweepSpace& space) {
  std::istringstream lines{std::string(yaml)};
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(own_comment)) continue;
    std::istringstream words(line.substr(own_comment.size()));
    std::string setting_name, value;
    words >> setting_name >> value;
    const auto setting = std::ranges::find(space_settings(), setting_name, &SpaceSetting::name);
    if (setting == space_settings().end()) {
      throw UsageError(fmt::format("{}: '{}': no setting of this name", origin, excerpt(line)));
    }
    setting->apply(space, value, fmt::format("{}: {}{}", origin, own_comment, setting_name));
  }
}

}  // namespace

std::vector<std::string> parse_trtllm_config(std::string_view yaml, const std::string& origin,
                                             SweepSpace& space) {
  const YAML::Node root = parse_yaml_map(yaml, origin);
  std::vector<std::string> unread = Reader(generation_server(root, origin), origin).read(space);
  read_own_comments(yaml, origin, space);
  return unread;
}

std::vector<std::string> load_trtllm_config(const std::string& path, SweepSpace& space) {
  return parse_trtllm_config(read_text_file(path, "TensorRT-LLM configuration"), path, space);
}

}  // namespace helix
