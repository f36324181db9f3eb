// Attention by NVIDIA's kernels behind the backend's op: our part of it on the emulated GPU, theirs as their header has it.
#include <set>

#include "backend/paged_cache.hpp"
#include "cuda/emulated_backend.hpp"
#include "cuda/fake_kernel_driver.hpp"
#include "kernels/cuda/providers/trtllm_gen_rows.hpp"
#include "kernels/state/kv_cache.hpp"
#include "simt/every_order.hpp"
#include "tests/compare.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

/// A GPU with a recorder of what is launched on it.
struct Recorded {
  explicit Recorded(const cuda::Gpu& gpu = cuda::kDatacentreGpu) : backend(gpu) {
    backend.add_provider(fake_trtllm_gen(gpu, &driver));
  }
  EmulatedBackend backend;
  FakeKernelDriver* driver = nullptr;
};

bool all_contain(const std::vector<std::string>& names, const std::string& text) {
  return !names.empty() &&
         std::ranges::all_of(names, [&](const std::string& n) { return n.find(text) != n.npos; });
}

}  // namespace

TEST_CASE("trtllm-gen: attention over plain pages against fp64") {
  std::set<std::string> kernels;
  for (const DType dtype : {DType::bf16, DType::fp8})
    for (const std::int64_t dim : {64, 128, 256}) {
      PagedCache cache(of_others(gqa(2, dim, dtype)), {1, 32, 33, 600});
      cache.append_random();
      for (const std::int64_t group : {1, 5, 8, 16, 17, 64, 128}) {
        if (!device().why_not_attended(cache.view().shape, 2 * group, 1).empty()) continue;
        Recorded gpu;
        const std::vector<BF16> q = cache.random_row(4 * 2 * group * dim, 4.0f);
        INFO("dim " << dim << " group " << group << ' ' << name(dtype));
        check_attention(cache, 2 * group, 0.1f, q, attend(cache, 2 * group, 0.1f, q, gpu.backend));
        kernels.insert(gpu.driver->launched.begin(), gpu.driver->launched.end());
      }
    }
  CHECK(kernels.size() > 10);
}

TEST_CASE("trtllm-gen: MLA, and blocks whose results a kernel of ours adds up") {
  for (const std::int64_t heads : {8, 16, 64, 128}) {
    cuda::Gpu few = cuda::kDatacentreGpu;
    few.multiprocessors =
        heads < 64 ? 148 : 9;  // each with many tokens: of 64 heads and more that takes other kernels
    Recorded gpu(few);
    PagedCache cache(of_others(mla()),
                     heads < 64 ? std::vector<std::int64_t>{33, 700} : std::vector<std::int64_t>(3, 400));
    cache.append_random();
    const std::int64_t rows = std::ssize(cache.lengths());
    const std::vector<BF16> q = cache.random_row(rows * heads * 576, 1.0f);
    INFO(heads << " heads");
    check_attention(cache, heads, 0.04f, q, attend(cache, heads, 0.04f, q, gpu.backend));
    CHECK(all_contain(gpu.driver->launched, heads < 64    ? "SwapsAb"
                                            : heads < 128 ? "StaticKeepsAb"
                                                          : "2CtaKeepsAb"));
  }
}

TEST_CASE("trtllm-gen: a request without tokens has no result, and others have theirs") {
  PagedCache cache(of_others(gqa(1, 64)), {0, 40, 0});
  cache.append_random();
  const std::vector<BF16> q = cache.random_row(3 * 4 * 64, 4.0f);
  in_every_order_of_threads([&] {
    Recorded gpu;
    AttentionResult result = attend(cache, 4, 0.1f, q, gpu.backend);
    for (const std::size_t empty : {0u, 2u})
      std::fill_n(result.o.begin() + static_cast<std::ptrdiff_t>(empty * 4 * 64), 4 * 64, to_bf16(nan_value));
    check_attention(cache, 4, 0.1f, q, result);
  });
}

// Each block's share of a request's tokens, of which a short one has fewer than there is room for; the halves of a head's
// values may have blocks of their own.
TEST_CASE("trtllm-gen: what blocks leave is added up exactly") {
  for (const std::int64_t v_dim_per_tile : {512, 256}) {
    const std::vector<std::int64_t> lengths{1000, 130, 0, 1};
    const std::int64_t batch = 4, heads = 12, tile_heads = 6, tile_q = 8, splits = 5, v_dim = 512;
    const std::int64_t of_values = v_dim / v_dim_per_tile, tiles = heads / tile_heads * of_values;
    const auto rows = static_cast<std::size_t>(batch * tiles * splits * tile_q);
    std::vector<float> stats(2 * rows, nan_value);
    std::vector<BF16> o(rows * static_cast<std::size_t>(v_dim_per_tile), to_bf16(nan_value));
    const auto row = [&](std::int64_t b, std::int64_t head, std::int64_t half, std::int64_t split) {
      const std::int64_t tile = b * tiles + head / tile_heads * of_values + half;
      return static_cast<std::size_t>((tile * splits + split) * tile_q + head % tile_heads);
    };
    const auto parts = [&](std::int64_t b) {
      return std::min((lengths[static_cast<std::size_t>(b)] + 127) / 128, splits);
    };
    std::mt19937 random(3);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t head = 0; head < heads; ++head)
        for (std::int64_t split = 0; split < parts(b); ++split) {
          const float largest = 20 * uniform(random), sum = 1 + 100 * std::fabs(uniform(random));
          for (std::int64_t half = 0; half < of_values; ++half) {
            const std::size_t at = row(b, head, half, split);
            stats[2 * at] = largest;
            stats[2 * at + 1] = sum;
            for (std::size_t d = 0; d < static_cast<std::size_t>(v_dim_per_tile); ++d)
              o[at * static_cast<std::size_t>(v_dim_per_tile) + d] = to_bf16(sum * uniform(random));
          }
        }
    const float scale_log2 = 0.3f;
    const DeviceVector<float> stats_in(stats), lse(static_cast<std::size_t>(batch * heads), nan_value);
    const DeviceVector<BF16> o_in(o),
        out(static_cast<std::size_t>(batch * heads * v_dim), to_bf16(nan_value));
    const DeviceVector<std::int64_t> lengths_in(lengths);
    cuda::merge_blocks(nullptr, batch, heads, lengths_in.data(),
                       {.stats = stats_in.data(),
                        .o = o_in.data(),
                        .splits = splits,
                        .tile_q = tile_q,
                        .heads_per_tile = tile_heads,
                        .v_dim = v_dim,
                        .v_dim_per_tile = v_dim_per_tile,
                        .scale_log2 = scale_log2},
                       out.data(), lse.data());
    const std::vector<BF16> got = out.values();
    const std::vector<float> got_lse = lse.values();
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t head = 0; head < heads; ++head) {
        INFO("request " << b << " head " << head);
        double sum = 0;
        std::vector<double> exact(static_cast<std::size_t>(v_dim));
        for (std::int64_t split = 0; split < parts(b); ++split)
          for (std::int64_t half = 0; half < of_values; ++half) {
            const std::size_t at = row(b, head, half, split);
            const double weight = std::exp2(static_cast<double>(scale_log2) * stats[2 * at]);
            if (half == 0) sum += weight * stats[2 * at + 1];
            for (std::size_t d = 0; d < static_cast<std::size_t>(v_dim_per_tile); ++d)
              exact[static_cast<std::size_t>(half * v_dim_per_tile) + d] +=
                  weight * to_float(o[at * static_cast<std::size_t>(v_dim_per_tile) + d]);
          }
        const auto place = static_cast<std::size_t>(b * heads + head);
        if (lengths[static_cast<std::size_t>(b)] == 0) {
          CHECK(got_lse[place] == -infinity);
          continue;
        }
        CHECK(got_lse[place] == Approx(std::log(sum)).epsilon(1e-5));
        double error = 0;
        for (std::size_t d = 0; d < exact.size(); ++d)
          error = std::max(error, std::fabs(to_float(got[place * exact.size() + d]) - exact[d] / sum) -
                                      std::fabs(exact[d] / sum) / 256);
        CHECK(error < 1e-5);  // beyond one rounding to bf16
      }
  }
}

// They read whole tiles of up to 256 tokens.
TEST_CASE("trtllm-gen: a cache's tables name pages far behind the last, and zeros lie behind the history") {
  const KvShape shape = of_others(gqa(2, 64));
  const std::int64_t batch = 3, growth = 32;
  std::unique_ptr<Buffer> memory;
  for (const std::int64_t tokens : {70, 96, 0, 1000}) {
    CAPTURE(tokens);
    const CacheRoom room{
        .shape = shape, .layers = {1, 4}, .requests = batch, .history = {0, tokens}, .growth = growth};
    ensure(device(), memory, KvCache::bytes_needed(device(), {&room, 1}));
    memory->allow_all();
    device().set_bytes(memory->data(), 0xff, memory->bytes());  // what a run before this one left
    KvCache cache = KvCache::make(device(), {&room, 1}, memory).front();
    cache.fill_history({.seed = 5, .requests = {{0, batch}}, .global_kv_heads = 2});
    const std::int64_t pages = room.pages_per_request();
    for (const std::int64_t layer : room.layers) {
      const KvView view = cache.layer(layer);
      CHECK((view.page_count == batch * pages && view.most_tokens == tokens + growth));
      CHECK((view.max_pages % 8 == 0 && view.max_pages >= (pages + 7) / 8 * 8 + 8));
      std::vector<std::int32_t> table(static_cast<std::size_t>(batch * view.max_pages));
      device().copy_to_host(table.data(), view.page_table, table.size() * sizeof(std::int32_t));
      for (std::int64_t i = 0; i < std::ssize(table); ++i)
        CHECK(table[static_cast<std::size_t>(i)] ==
              std::min(i % view.max_pages, pages - 1) * batch + i / view.max_pages);
      std::vector<BF16> values(static_cast<std::size_t>(view.page_count) * view.page_bytes / sizeof(BF16));
      device().copy_to_host(values.data(), view.pages, values.size() * sizeof(BF16));
      CHECK(std::ranges::none_of(values, [](BF16 x) { return std::isnan(to_float(x)); }));
      CHECK(std::ranges::count_if(values, [](BF16 x) { return to_float(x) != 0; }) <=
            batch * tokens * 2 * 128);
    }
  }
}

TEST_CASE("trtllm-gen: beside an exchange attention leaves it multiprocessors") {
  PagedCache cache(of_others(gqa(1, 64)), {4000});
  cache.append_random();
  const std::vector<BF16> q = cache.random_row(8 * 64, 4.0f);
  cuda::Gpu gpu = cuda::kDatacentreGpu;
  gpu.multiprocessors = 10;  // 5 of them are left
  Recorded recorded(gpu);
  const AttentionResult alone = attend(cache, 8, 0.1f, q, recorded.backend);
  recorded.backend.beside_exchange(true);
  const AttentionResult beside = attend(cache, 8, 0.1f, q, recorded.backend);
  check_attention(cache, 8, 0.1f, q, alone);
  check_attention(cache, 8, 0.1f, q, beside);
  CHECK(recorded.driver->blocks == std::vector<std::int64_t>{8, 5});
}

TEST_CASE("trtllm-gen: what it does not run is said by name") {
  const cuda::Gpu& gpu = cuda::kDatacentreGpu;
  const KvShape shape = of_others(gqa(2, 128));
  EmulatedBackend without(gpu);
  CHECK(without.why_not(shape) == "no kernels of trtllm-gen here");
  const auto with = [&](const std::filesystem::path& folder, int capability) {
    auto backend = std::make_unique<EmulatedBackend>(gpu);
    backend->add_provider(
        cuda::make_trtllm_gen(std::make_unique<FakeKernelDriver>(), folder, capability, gpu));
    return backend;
  };
  CHECK_THAT(with("/nowhere", 100)->why_not(shape), Catch::Contains("install_deps.sh trtllm-gen"));
  CHECK(with(trtllm_gen_golden, 90)->why_not(shape) ==
        "trtllm-gen's kernels run on compute capability 10.0 and 10.3, this GPU has 9.0");
  CHECK(with(trtllm_gen_golden, 103)->why_not(shape) == "");
  const auto backend = with(trtllm_gen_golden, 100);
  CHECK(backend->kernel_for(shape) == "attention trtllm-gen, other cuda-mma-bf16");
  CHECK(backend->why_not_attended(shape, 16, 1) == "");
  CHECK(backend->why_not_attended(shape, 16, 2) ==
        "trtllm-gen's kernels take one token of each request here, and no drafts");
  CHECK(backend->why_not_attended(of_others(mla()), 20, 1) ==
        "trtllm-gen's kernels take query heads of a KV head in whole tiles of 16, not 20");
  CHECK_THAT(backend->why_not(of_others(gqa(2, 128, DType::nvfp4))), Catch::Contains("not nvfp4"));
  CHECK_THAT(usage_error([&] { backend->kv_page_bytes(of_others(gqa(2, 128, DType::nvfp4))); }),
             Catch::Contains("not nvfp4"));
}
