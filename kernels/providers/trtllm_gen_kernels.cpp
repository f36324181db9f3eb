#include "kernels/providers/trtllm_gen_kernels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>
#include <system_error>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/csv.hpp"
#include "roofline/base/error.hpp"

namespace helix {
namespace {

using Kernel = TrtllmGenKernel;

/// One column of kernels.csv after the other.
class Fields {
 public:
  Fields(const CsvRecord& record, const CsvReader& in) : record_(record), in_(in) {}
  const std::string& text() {
    if (at_ == record_.size()) in_.fail("too few columns");
    return record_[at_++];
  }
  int number() {
    const std::string& field = text();
    int value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc{} || end != field.data() + field.size() || value < 0)
      in_.fail("no number: " + field);
    return value;
  }
  bool flag() { return number() != 0; }
  DType dtype() {
    const std::string& field = text();
    if (field != "bf16" && field != "fp8") in_.fail("no type of these kernels: " + field);
    return field == "bf16" ? DType::bf16 : DType::fp8;
  }
  void end() const {
    if (at_ != record_.size()) in_.fail("too many columns");
  }

 private:
  const CsvRecord& record_;
  const CsvReader& in_;
  std::size_t at_ = 0;
};

const std::string header =
    "function,sha256,q,kv,head_dim,v_dim,v_dim_per_block,tile_q,tile_kv,step_kv,tokens_per_page,type,split,"
    "persistent,causal,groups_tokens,two_blocks,shared_bytes,threads";

Kernel read_kernel(Fields in) {
  Kernel k;
  k.function = in.text();
  k.sha256 = in.text();
  k.q = in.dtype();
  k.kv = in.dtype();
  k.head_dim = in.number();
  k.v_dim = in.number();
  k.v_dim_per_block = in.number();
  k.tile_q = in.number();
  k.tile_kv = in.number();
  k.step_kv = in.number();
  k.tokens_per_page = in.number();
  k.type = static_cast<Kernel::Type>(in.number());
  k.split = static_cast<Kernel::Split>(in.number());
  k.persistent = in.flag();
  k.causal = in.flag();
  k.groups_tokens = in.flag();
  k.two_blocks = in.flag();
  k.shared_bytes = in.number();
  k.threads = in.number();
  in.end();
  return k;
}

/// What is chosen before the kernel is known.
struct Traits {
  Kernel::Type type = Kernel::Type::swaps_ab;
  Kernel::Split split = Kernel::Split::in_memory;
  int tile_q = 128;
  std::int64_t v_dim_per_block = 0;
  bool persistent = false, two_blocks = false, causal = false;

  bool operator==(const Traits&) const = default;
};

bool latent(const KvShape& cache) {
  return cache.kind == AttentionKind::mla;
}

/// Keys and queries of one type: only such kernels put rows of several tokens into one tile.
bool same_types(const KvShape& cache) {
  return cache.dtype == DType::bf16;
}

/// Few tokens for each block: the cache is better the operand that the tensor cores take in rows of 128.
bool many_short_blocks(const TrtllmGenStep& s) {
  const std::int64_t blocks = s.requests * ceil_div(s.group(), 16);
  const std::int64_t splits =
      std::min(ceil_div(s.most_tokens, 256), std::max<std::int64_t>(1, s.multiprocessors / blocks));
  return ceil_div(s.most_tokens, splits) <= 1024 && blocks <= s.multiprocessors;
}

void choose_tile(const TrtllmGenStep& s, Traits& t) {
  const std::int64_t group = s.group();
  t.causal = !latent(s.cache);
  if (!latent(s.cache) && !same_types(s.cache)) {
    t.tile_q = group <= 8 ? 8 : 16;
    return;
  }
  if (!latent(s.cache)) {
    t.tile_q = group <= 8 ? 8 : group <= 16 ? 16 : group <= 32 ? 32 : group <= 64 ? 64 : 128;
    if (t.tile_q >= 64) t.type = Kernel::Type::keeps_ab;
    return;
  }
  if (group <= 32 || many_short_blocks(s)) {
    t.tile_q = group <= 8 ? 8 : 16;
    return;
  }
  t.type = Kernel::Type::keeps_ab;
  t.tile_q = 64;
  if (t.split != Kernel::Split::none) t.split = Kernel::Split::by_another_kernel;
  if (group == 128) {
    t.two_blocks = true;
    t.v_dim_per_block = 256;
  }
}

std::int64_t heads_per_block(std::int64_t group, int tile_q) {
  return std::min<std::int64_t>(group, tile_q);
}

const Kernel& find(const std::vector<Kernel>& kernels, const KvShape& cache, const Traits& t) {
  const auto found = std::ranges::find_if(kernels, [&](const Kernel& k) {
    return k.q == DType::bf16 && k.kv == cache.dtype && k.head_dim == cache.head_dim &&
           k.v_dim == cache.v_dim && k.tokens_per_page == cache.tokens_per_page && k.tile_kv == 128 &&
           Traits{k.type, k.split, k.tile_q, k.v_dim_per_block, k.persistent, k.two_blocks, k.causal} == t;
  });
  if (found != kernels.end()) return *found;
  throw std::runtime_error(fmt::format(
      "trtllm-gen: no kernel for heads of {} and {} values in {}, tiles of {} queries and {} values, "
      "type {}, split {}{}{}",
      cache.head_dim, cache.v_dim, name(cache.dtype), t.tile_q, t.v_dim_per_block, static_cast<int>(t.type),
      static_cast<int>(t.split), t.persistent ? ", persistent" : "", t.two_blocks ? ", of two blocks" : ""));
}

/// The plan of these traits; `again`: they were changed, and another kernel is to be found.
TrtllmGenPlan laid_out(const Kernel& kernel, const TrtllmGenStep& s, bool only_in_memory, Traits& t,
                       bool& again) {
  again = false;
  TrtllmGenPlan plan{.kernel = kernel, .launch = {}};
  plan.heads_per_block = heads_per_block(s.group(), kernel.tile_q);
  const std::int64_t of_heads = s.q_heads / plan.heads_per_block,
                     of_values = s.cache.v_dim / t.v_dim_per_block;
  // Two blocks that work together are a pair of heads' tiles as well as a pair of the values' halves.
  std::int64_t x = t.two_blocks ? 2 : 1;
  const std::int64_t y = t.two_blocks ? of_heads * of_values / 4 : of_heads * of_values;
  if (t.split != Kernel::Split::none) {
    // A block is to have two steps at least, or adding up costs more than it saves.
    plan.splits = std::min(ceil_div(s.most_tokens, std::int64_t{2} * kernel.step_kv),
                           std::max<std::int64_t>(1, s.multiprocessors / (x * y * s.requests)));
    x *= plan.splits;
    if (plan.splits <= 1) {
      t.split = Kernel::Split::none;
      t.persistent = true;
      again = true;
    }
    const bool one_latent_request = s.requests == 1 && latent(s.cache);
    if (!one_latent_request && plan.splits > 1 && plan.splits <= 16 && t.type == Kernel::Type::swaps_ab &&
        t.split == Kernel::Split::in_memory && !only_in_memory && s.cache.v_dim < 512) {
      t.split = Kernel::Split::in_cluster;
      again = true;
    }
  }
  const std::int64_t blocks = x * y * s.requests;
  if (latent(s.cache) && !again && !t.two_blocks && t.v_dim_per_block == 512) {
    const std::int64_t factor = s.requests == 1 ? 1 : 2;
    if (blocks * factor <= s.multiprocessors) {
      t.v_dim_per_block = blocks * 2 * factor <= s.multiprocessors ? 128 : 256;
      again = true;
    }
  }
  plan.launch = {
      .grid = {static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(s.requests)},
      .threads = static_cast<unsigned>(kernel.threads),
      .cluster = static_cast<unsigned>((t.two_blocks ? 2 : 1) *
                                       (t.split == Kernel::Split::in_cluster ? plan.splits : 1)),
      .shared_bytes = static_cast<unsigned>(kernel.shared_bytes)};
  return plan;
}

TrtllmGenPlan settle(const std::vector<Kernel>& kernels, const TrtllmGenStep& step, bool only_in_memory) {
  Traits traits{.v_dim_per_block = step.cache.v_dim};
  for (int pass = 0; pass < 5; ++pass) {
    choose_tile(step, traits);
    bool again = false;
    const Kernel& kernel = find(kernels, step.cache, traits);
    TrtllmGenPlan plan = laid_out(kernel, step, only_in_memory, traits, again);
    if (!again) return plan;
  }
  throw std::logic_error("trtllm-gen: the choice of a kernel does not end");
}

}  // namespace

std::optional<std::vector<TrtllmGenKernel>> read_trtllm_gen_kernels(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "kernels.csv";
  std::ifstream text(file);
  if (!text) return std::nullopt;
  CsvReader in(text, file.string(), CsvReader::LastLine::is_torn);
  CsvRecord record;
  if (!in.next(record) || csv_line(record) != header + "\n")
    in.fail("the columns are not those of scripts/trtllm_gen.py");
  std::vector<TrtllmGenKernel> kernels;
  while (in.next(record)) kernels.push_back(read_kernel(Fields(record, in)));
  return kernels;
}

std::filesystem::path trtllm_gen_folder() {
  if (const char* const asked = std::getenv("HELIX_TRTLLM_GEN")) return asked;
  std::error_code error;
  std::filesystem::path above = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (int level = 0; level < 4 && above.has_relative_path(); ++level, above = above.parent_path()) {
    if (std::filesystem::exists(above / "trtllm-gen" / "kernels.csv", error)) return above / "trtllm-gen";
  }
  return {};
}

std::string describe_trtllm_gen(const std::filesystem::path& folder) {
  const auto kernels = read_trtllm_gen_kernels(folder);
  if (!kernels) {
    return folder.empty() ? "not found: scripts/install_deps.sh trtllm-gen fetches them, and "
                            "$HELIX_TRTLLM_GEN says where they are"
                          : fmt::format("not found in {}", folder.string());
  }
  std::map<std::string, std::set<std::string>> dtypes;  // of each kind of heads
  for (const Kernel& k : *kernels) {
    dtypes[k.head_dim == k.v_dim ? fmt::format("GQA {}", k.head_dim)
                                 : fmt::format("MLA {} with {} values", k.head_dim, k.v_dim)]
        .emplace(name(k.kv));
  }
  std::string heads;
  for (const auto& [kind, types] : dtypes) {
    heads += (heads.empty() ? "" : ", ") + kind + " in " + *types.begin();
    if (types.size() > 1) heads += " and " + *types.rbegin();
  }
  return fmt::format(
      "NVIDIA's for compute capability 10.0 and 10.3: {} kernels in {}; {}; pages of 32 tokens, one token a "
      "request and step; "
      "never run on a GPU from here",
      kernels->size(), folder.string(), heads);
}

std::string why_no_trtllm_gen(const KvShape& cache, std::int64_t q_heads) {
  if (cache.dtype != DType::bf16 && cache.dtype != DType::fp8)
    return fmt::format("a cache of bf16 or fp8, not {}", name(cache.dtype));
  if (cache.tokens_per_page != 32) return fmt::format("pages of 32 tokens, not {}", cache.tokens_per_page);
  if (latent(cache)) {
    if (cache.head_dim != 576 || cache.v_dim != 512)
      return fmt::format("MLA of 576 values a token, 512 of them the latent, not {} and {}", cache.head_dim,
                         cache.v_dim);
    if (cache.dtype != DType::bf16) return "MLA's fp8 cache with queries of fp8, which those here are not";
  } else if ((cache.head_dim != 64 && cache.head_dim != 128 && cache.head_dim != 256) ||
             cache.v_dim != cache.head_dim) {
    return fmt::format("GQA with heads of 64, 128 or 256 values, not {} and {}", cache.head_dim, cache.v_dim);
  }
  const std::int64_t group = q_heads / cache.kv_heads;
  // The tiles that any number of requests and tokens may lead to.
  std::vector<int> tiles{16};
  if (latent(cache) && group > 32) tiles.push_back(64);
  if (!latent(cache) && same_types(cache) && group > 16) tiles = {group <= 32 ? 32 : group <= 64 ? 64 : 128};
  for (const int tile : tiles) {
    if (group % heads_per_block(group, tile) != 0)
      return fmt::format("query heads of a KV head in whole tiles of {}, not {}", tile, group);
  }
  return {};
}

TrtllmGenPlan plan_trtllm_gen(const std::vector<TrtllmGenKernel>& kernels, const TrtllmGenStep& step,
                              const std::function<int(const TrtllmGenPlan&)>& most_clusters) {
  TrtllmGenPlan plan = settle(kernels, step, false);
  if (plan.kernel.split != Kernel::Split::in_cluster) return plan;
  // All clusters at a time, or the blocks meet in memory.
  const auto& [x, y, z] = plan.launch.grid;
  const auto blocks = static_cast<std::int64_t>(x) * y * z;
  if (static_cast<std::int64_t>(most_clusters(plan)) * plan.launch.cluster >= blocks) return plan;
  return settle(kernels, step, true);
}

}  // namespace helix
