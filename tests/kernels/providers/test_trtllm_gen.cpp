// Which of NVIDIA's kernels a step takes and how it is called, held to what FlashInfer's launcher asked of a driver for the
// same steps, and the layout of their parameter to what a compiler made of its header (scripts/trtllm_gen.py wrote both).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "kernels/providers/trtllm_gen_kernels.hpp"
#include "kernels/providers/trtllm_gen_params.hpp"
#include "roofline/base/csv.hpp"
#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

namespace helix {
namespace {

const std::filesystem::path golden = HELIX_SOURCE_DIR "/tests/kernels/providers/trtllm_gen";

std::vector<CsvRecord> records(const std::filesystem::path& file) {
  std::ifstream text(file);
  REQUIRE(text);
  CsvReader in(text, file.string(), CsvReader::LastLine::is_torn);
  std::vector<CsvRecord> all;
  CsvRecord record;
  in.next(record);  // the header
  while (in.next(record)) all.push_back(record);
  return all;
}

/// Numbers the tensor maps that it is asked for, and says them as the launcher's recorder does.
class RecordingDriver final : public KernelDriver {
 public:
  Function load(const std::filesystem::path&, const std::string&, int, std::size_t) override {
    return nullptr;
  }
  TensorMap describe(const TensorBoxes& b) override {
    maps.push_back(fmt::format("{} {} dims {} strides {} box {} swizzle {}",
                               b.values == TensorBoxes::Values::bf16 ? "bf16" : "bytes",
                               reinterpret_cast<std::uintptr_t>(b.base), fmt::join(b.dims, " "),
                               fmt::join(b.strides_bytes, " "), fmt::join(b.box, " "), b.swizzle_bytes));
    return {};
  }
  int most_clusters(Function, const KernelLaunch&) override { return 0; }
  void launch(Function, const KernelLaunch&, const void*) override {}

  std::vector<std::string> maps;
};

/// Those 8 bytes that are not zero.
std::string words(const TrtllmGenParams& params) {
  std::array<unsigned char, sizeof params> bytes;
  std::memcpy(bytes.data(), &params, sizeof params);
  std::vector<std::string> words;
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    std::string word;
    for (std::size_t i = at; i < at + 8; ++i) word += fmt::format("{:02x}", bytes[i]);
    if (word != "0000000000000000") words.push_back(fmt::format("{}={}", at, word));
  }
  return fmt::format("{}", fmt::join(words, " "));
}

template <class T>
T* at(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

/// Bytes of padding are nobody's: zero where the launcher's recorder has them so.
TrtllmGenParams cleared(const TrtllmGenParams& params) {
  TrtllmGenParams clear;
  std::memset(static_cast<void*>(&clear), 0, sizeof clear);
  clear = params;
  return clear;
}

}  // namespace

TEST_CASE("trtllm-gen: the parameter lies in memory as its header has it") {
  std::map<std::string, std::pair<std::size_t, std::size_t>> expected;
  for (const CsvRecord& r : records(golden / "layout.csv"))
    expected[r[0]] = {std::stoul(r[1]), std::stoul(r[2])};
#define SAME(theirs, ours)                                            \
  do {                                                                \
    INFO(theirs);                                                     \
    REQUIRE(expected.contains(theirs));                               \
    CHECK(expected[theirs].first == offsetof(TrtllmGenParams, ours)); \
    CHECK(expected[theirs].second == sizeof(TrtllmGenParams::ours));  \
  } while (false)
  SAME("tmaQ_", q);
  SAME("tmaK_", k);
  SAME("tmaKSlidingWindowKvPool_", k_window_pool);
  SAME("tmaV_", v);
  SAME("tmaO_", o);
  SAME("tmaKSf_", k_scales);
  SAME("tmaVSf_", v_scales);
  SAME("ptrO", out);
  SAME("ptrAttentionSinks", sinks);
  SAME("ptrCumSeqLensQ", q_starts);
  SAME("ptrMultiCtasKvCounter", counters);
  SAME("ptrOutputScale", out_scale);
  SAME("ptrPageIdxKv", page_table);
  SAME("ptrPartialO", partial_out);
  SAME("ptrPartialStats", partial_stats);
  SAME("ptrScaleSoftmaxLog2", softmax_scale);
  SAME("ptrScaleSfKv", kv_scale);
  SAME("ptrSeqLensKv", lengths);
  SAME("ptrSoftmaxStats", softmax_stats);
  SAME("ptrSparseMlaTopKLens", sparse_lengths);
  SAME("mAttentionWindowSize", window);
  SAME("mBatchSize", requests);
  SAME("mChunkedAttentionSizeLog2", chunk_log2);
  SAME("mInflateMax", inflate_max);
  SAME("mMaxSeqLenQ", most_q_tokens);
  SAME("mMaxSeqLenKv", most_tokens);
  SAME("mMaxNumCtasQ", q_blocks);
  SAME("mMaxNumCtasKv", splits);
  SAME("mMaxNumPagesPerSeqKv", table_width);
  SAME("mNumHeadsKv", kv_heads);
  SAME("mNumHeadsQ", q_heads);
  SAME("mNumHeadsQPerKv", group);
  SAME("mNumHeadsQPerKvDivisor", group_divisor);
  SAME("mNumHiddenEltsO", out_width);
  SAME("mNumPagesInMemPool", pages);
  SAME("mNumTokensPerCtaQ", q_tokens_per_block);
  SAME("mNumTokensPerPageLog2", tokens_per_page_log2);
  SAME("mReshapeFactorKv", box_rows);
  SAME("mOutputScale", out_factor);
  SAME("mScaleSoftmaxLog2", softmax_scale_log2);
  SAME("mScaleSfKv", kv_block_scale);
  SAME("mScaleSfO", out_block_factor);
  SAME("mSkipSoftmaxThresholdScaleFactor", skip_threshold);
  SAME("mSparseAttnTopK", sparse_top_k);
  SAME("mStartTokenIdxSfO", first_scale);
  SAME("mSumOfSeqLensQ", q_tokens);
  SAME("mSumOfSeqLensKv", kv_tokens);
  SAME("mUseBlockSparseAttention", block_sparse);
  SAME("mUsesSharedPagedKvIdx", same_pages_of_k_and_v);
#undef SAME
  CHECK(expected["KernelParams"].second == sizeof(TrtllmGenParams));
}

TEST_CASE("trtllm-gen: kernels, grids and parameters are those of its own launcher") {
  const auto kernels = read_trtllm_gen_kernels(golden);
  REQUIRE(kernels);
  const std::vector<CsvRecord> launches = records(golden / "launches.csv");
  CHECK(launches.size() > 90);
  for (const CsvRecord& line : launches) {
    INFO(line[0]);
    std::istringstream text(line[0]);
    int mla = 0, fp8 = 0, clusters = 0;
    std::int64_t pages = 0, width = 0;
    TrtllmGenStep step;
    text >> mla >> step.cache.kv_heads >> step.q_heads >> step.cache.head_dim >> step.cache.v_dim >> fp8 >>
        step.requests >> step.most_tokens >> step.multiprocessors >> pages >> width >> clusters;
    REQUIRE(text);
    step.cache.kind = mla ? AttentionKind::mla : AttentionKind::gqa;
    step.cache.dtype = fp8 ? DType::fp8 : DType::bf16;
    REQUIRE(why_no_trtllm_gen(step.cache, step.q_heads) == "");
    const TrtllmGenPlan plan =
        plan_trtllm_gen(*kernels, step, [&](const TrtllmGenPlan&) { return clusters; });
    const auto& launch = plan.launch;
    CHECK(plan.kernel.function == line[1]);
    CHECK(fmt::format("{}", fmt::join(launch.grid, " ")) == line[2]);
    CHECK(fmt::format("{}", launch.threads) == line[3]);
    CHECK(fmt::format("{}", launch.cluster) == line[4]);
    CHECK(fmt::format("{}", launch.shared_bytes) == line[5]);
    RecordingDriver driver;
    const std::int64_t values =
        step.cache.kv_heads * 32 * (mla ? step.cache.head_dim : step.cache.head_dim + step.cache.v_dim);
    const TrtllmGenParams params = trtllm_gen_params(driver, plan, step,
                                                     {.q = at<void>(0x10000),
                                                      .cache = at<void>(0x20000),
                                                      .o = at<void>(0x30000),
                                                      .page_bytes = values * (fp8 ? 1 : 2),
                                                      .pages = pages,
                                                      .page_table = at<std::int32_t>(0x40000),
                                                      .lengths = at<std::int32_t>(0x50000),
                                                      .table_width = width,
                                                      .counters = at<std::int32_t>(0x60000),
                                                      .softmax_stats = at<float>(0x70000),
                                                      .partials = at<std::byte>(0x80000),
                                                      .scale = 0.125f});
    CHECK(words(cleared(params)) == line[6]);
    if (mla) driver.maps.insert(driver.maps.begin() + 1, driver.maps[1]);  // one map for keys and values
    CHECK(fmt::format("{}", fmt::join(driver.maps, ";")) == line[7]);
    // What blocks leave for each other has room.
    const auto behind =
        static_cast<std::size_t>(static_cast<std::byte*>(params.partial_out) - at<std::byte>(0x80000));
    const auto blocks = std::size_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
    if (plan.splits > 1)
      CHECK(behind +
                blocks * static_cast<std::size_t>(plan.kernel.tile_q * plan.kernel.v_dim_per_block) * 4 <=
            trtllm_gen_partial_bytes(step.cache, step.multiprocessors));
  }
}

TEST_CASE("trtllm-gen: every step of a cache that is taken has a kernel") {
  const auto kernels = read_trtllm_gen_kernels(golden);
  REQUIRE(kernels);
  std::size_t taken = 0;
  for (const auto& [dim, v_dim] : {std::pair{64, 64}, {128, 128}, {256, 256}, {576, 512}})
    for (const DType dtype : {DType::bf16, DType::fp8})
      for (std::int64_t group = 1; group <= 256; ++group) {
        TrtllmGenStep step{.cache = {.kind = dim == 576 ? AttentionKind::mla : AttentionKind::gqa,
                                     .head_dim = dim,
                                     .v_dim = v_dim,
                                     .dtype = dtype},
                           .q_heads = group};
        if (!why_no_trtllm_gen(step.cache, group).empty()) continue;
        ++taken;
        for (step.requests = 1; step.requests <= 1024; step.requests *= 4)
          for (step.most_tokens = 1; step.most_tokens <= 1 << 20; step.most_tokens *= 8)
            for (const int multiprocessors : {148, 140})
              for (const int clusters : {0, 1000}) {
                step.multiprocessors = multiprocessors;
                INFO(group << " heads of " << dim << ", " << step.requests << " x " << step.most_tokens);
                const TrtllmGenPlan plan =
                    plan_trtllm_gen(*kernels, step, [&](const TrtllmGenPlan&) { return clusters; });
                const auto& [x, y, z] = plan.launch.grid;
                if (plan.splits > 1 && x * y * z > static_cast<unsigned>(multiprocessors)) FAIL();
                if (x % plan.launch.cluster != 0) FAIL();
              }
      }
  CHECK(taken > 300);
}

TEST_CASE("trtllm-gen: what no kernel takes is said") {
  const auto reason = [](KvShape shape, std::int64_t q_heads) { return why_no_trtllm_gen(shape, q_heads); };
  const KvShape gqa{.kv_heads = 2, .head_dim = 128, .v_dim = 128};
  const KvShape mla{.kind = AttentionKind::mla, .head_dim = 576, .v_dim = 512};
  const auto with = [](KvShape shape, auto member, auto value) {
    shape.*member = value;
    return shape;
  };
  CHECK(reason(gqa, 16) == "");
  CHECK(reason(mla, 128) == "");
  CHECK(reason(with(gqa, &KvShape::tokens_per_page, 64), 16) == "pages of 32 tokens, not 64");
  CHECK(reason(with(gqa, &KvShape::dtype, DType::nvfp4), 16) == "a cache of bf16 or fp8, not nvfp4");
  CHECK(reason(with(gqa, &KvShape::head_dim, 96), 16) ==
        "GQA with heads of 64, 128 or 256 values, not 96 and 128");
  CHECK(reason(with(mla, &KvShape::head_dim, 320), 16) ==
        "MLA of 576 values a token, 512 of them the latent, not 320 and 512");
  CHECK(reason(with(mla, &KvShape::dtype, DType::fp8), 16) ==
        "MLA's fp8 cache with queries of fp8, which those here are not");
  CHECK(reason(mla, 20) == "query heads of a KV head in whole tiles of 16, not 20");
  CHECK(reason(mla, 96) == "query heads of a KV head in whole tiles of 64, not 96");
  CHECK(reason(with(gqa, &KvShape::dtype, DType::fp8), 2 * 24) ==
        "query heads of a KV head in whole tiles of 16, not 24");
}

TEST_CASE("trtllm-gen: what was found is said, and that no GPU has run it") {
  CHECK_THAT(describe_trtllm_gen(golden),
             Catch::StartsWith("NVIDIA's for compute capability 10.0 and 10.3: 131 kernels in ") &&
                 Catch::Contains("GQA 64 in bf16 and fp8") &&
                 Catch::Contains("MLA 576 with 512 values in bf16;") &&
                 Catch::EndsWith("never run on a GPU from here"));
  CHECK_THAT(describe_trtllm_gen(""), Catch::Contains("install_deps.sh trtllm-gen"));
  CHECK(describe_trtllm_gen("/nowhere") == "not found in /nowhere");
}

TEST_CASE("trtllm-gen: its list is read, or refused by file and line") {
  const ScratchFolder folder;
  const auto read = [&](const std::string& text) {
    std::ofstream(folder.path / "kernels.csv") << text;
    return read_trtllm_gen_kernels(folder.path);
  };
  CHECK_FALSE(read_trtllm_gen_kernels(folder.path));
  std::ifstream in(golden / "kernels.csv");
  std::string header, first;
  std::getline(in, header);
  std::getline(in, first);
  CHECK(read(header + "\n" + first + "\n")->size() == 1);
  CHECK_THAT(usage_error([&] { read("function\n"); }), Catch::Contains("kernels.csv', line 1"));
  CHECK_THAT(usage_error([&] { read(header + "\n" + first + ",1\n"); }),
             Catch::Contains("line 2: too many columns"));
  CHECK_THAT(usage_error([&] { read(header + "\nf,s,int8\n"); }),
             Catch::Contains("no type of these kernels: int8"));
  CHECK_THAT(usage_error([&] { read(header + "\nf,s,bf16,bf16,x\n"); }), Catch::Contains("no number: x"));
}

}  // namespace helix
