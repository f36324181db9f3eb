// A driver that runs trtllm-gen's kernels as their header describes them: it reads the parameter by the header's own
// names and offsets (tests/kernels/providers/trtllm_gen/layout.csv), follows tensor maps and page tables through the emulated
// memory, where reads of what nobody wrote are faults, and attends in fp64. Like the kernels it reads whole tiles and multiplies
// by zero what lies behind a request's end.
#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "kernels/cuda/providers/trtllm_gen.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "roofline/base/csv.hpp"
#include "simt/global_memory.hpp"

namespace helix::testing {

inline const std::filesystem::path trtllm_gen_golden = HELIX_SOURCE_DIR "/tests/kernels/providers/trtllm_gen";

template <class T>
T read_global(const void* at) {
  simt::check_global_read(at, sizeof(T), sizeof(T));
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void write_global(void* at, T value) {
  simt::note_global_write(at, sizeof(T), sizeof(T));
  std::memcpy(at, &value, sizeof value);
}

class FakeKernelDriver final : public KernelDriver {
 public:
  FakeKernelDriver() {
    std::ifstream text(trtllm_gen_golden / "layout.csv");
    CsvReader in(text, "layout.csv", CsvReader::LastLine::is_torn);
    CsvRecord record;
    in.next(record);
    while (in.next(record)) offsets_[record[0]] = {std::stoul(record[1]), std::stoul(record[2])};
  }

  Function load(const std::filesystem::path& file, const std::string& function, int,
                std::size_t parameter_bytes) override {
    REQUIRE(file == trtllm_gen_golden / (function + ".cubin"));
    REQUIRE(parameter_bytes == offsets_.at("KernelParams").second);
    names_.push_back(std::make_unique<std::string>(function));
    return names_.back().get();
  }
  TensorMap describe(const TensorBoxes& boxes) override {
    TensorMap map;
    const std::size_t number = maps_.size();
    std::memcpy(map.bytes.data(), &number, sizeof number);
    maps_.push_back(boxes);
    return map;
  }
  int most_clusters(Function, const KernelLaunch& launch) override {
    return 100 / static_cast<int>(launch.cluster);
  }

  void launch(Function function, const KernelLaunch& launch, const void* parameter) override {
    const std::string& name = *static_cast<const std::string*>(function);
    launched.push_back(name);
    parameter_ = static_cast<const std::byte*>(parameter);
    const Step step(*this, name);
    // Each head's tile, half of its values if they are shared out, and a share of its tokens has a block.
    const std::int64_t in_all = std::int64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
    const std::int64_t tiles = step.heads / step.tile_heads * (step.v_dim / step.v_dim_per_block);
    REQUIRE(in_all == tiles * step.requests * step.splits / (step.two_blocks ? 2 : 1));
    REQUIRE(launch.grid[2] == step.requests);
    blocks.push_back(in_all);
    for (std::int64_t i = 0; i < step.requests * step.heads; ++i) {
      if (read_global<std::int32_t>(get<std::int32_t*>("ptrMultiCtasKvCounter") + i) != 0)
        FAIL("a counter is not zero");
    }
    for (std::int64_t request = 0; request < step.requests; ++request)
      for (std::int64_t head = 0; head < step.kv_heads; ++head) attend(step, request, head);
  }

  std::vector<std::string> launched;
  std::vector<std::int64_t> blocks;  // of each launch

 private:
  /// What the name and the parameter say of a launch.
  struct Step {
    Step(const FakeKernelDriver& d, const std::string& name)
        : k(d.map("tmaK_")), v(d.map("tmaV_")), q(d.map("tmaQ_")) {
      requests = d.get<std::int32_t>("mBatchSize");
      heads = d.get<std::int32_t>("mNumHeadsQ");
      kv_heads = d.get<std::int32_t>("mNumHeadsKv");
      splits = d.get<std::int32_t>("mMaxNumCtasKv");
      rows = d.get<std::int32_t>("mReshapeFactorKv");
      width = d.get<std::int32_t>("mMaxNumPagesPerSeqKv");
      scale = d.get<float>("mScaleSoftmaxLog2") / std::numbers::log2e;
      page = 1 << d.get<std::int32_t>("mNumTokensPerPageLog2");
      fp8 = k.values == TensorBoxes::Values::bytes;
      dim = static_cast<std::int64_t>(k.dims[0]) / rows;
      v_dim = dim == 576 ? 512 : dim;
      v_dim_per_block = v_dim;
      if (const auto at = name.find("HVPerCta"); at != name.npos)
        v_dim_per_block = std::stoi(name.substr(at + 8));
      tile_q = std::stoi(name.substr(name.find("VarSeqQ") + 7));
      tile_heads = std::min<std::int64_t>(heads / kv_heads, tile_q);
      two_blocks = name.find("2Cta") != name.npos;
      separate = name.find("GmemSep") != name.npos;
      REQUIRE((splits > 1) == (name.find("MultiCtasKv") != name.npos));
      REQUIRE(fp8 == (name.find("KvE4m3") != name.npos));
      REQUIRE(d.get<std::int32_t>("mMaxSeqLenQ") == 1);
      REQUIRE(d.get<bool>("mUsesSharedPagedKvIdx"));
      REQUIRE(d.get<std::int32_t>("mNumHeadsQPerKv") * kv_heads == heads);
    }
    const TensorBoxes &k, &v, &q;
    std::int64_t requests, heads, kv_heads, splits, rows, width, page, dim, v_dim, v_dim_per_block, tile_q,
        tile_heads;
    double scale;
    bool fp8, two_blocks, separate;
  };

  template <class T>
  T get(const std::string& field) const {
    const auto& [offset, bytes] = offsets_.at(field);
    REQUIRE(bytes == sizeof(T));
    T value;
    std::memcpy(&value, parameter_ + offset, sizeof value);
    return value;
  }
  const TensorBoxes& map(const std::string& field) const {
    std::size_t number = 0;
    std::memcpy(&number, parameter_ + offsets_.at(field).first, sizeof number);
    return maps_.at(number);
  }

  /// `values` of the innermost dimension from these coordinates on.
  static std::vector<float> values_at(const TensorBoxes& boxes, const std::vector<std::int64_t>& at,
                                      std::int64_t values) {
    const bool bytes = boxes.values == TensorBoxes::Values::bytes;
    std::int64_t offset = at[0] * (bytes ? 1 : 2);
    for (std::size_t i = 0; i < at.size(); ++i) {
      const std::int64_t last = at[i] + (i == 0 ? values - 1 : 0);
      if (at[i] < 0 || static_cast<std::uint64_t>(last) >= boxes.dims[i]) FAIL("outside of a tensor map");
      if (i > 0) offset += at[i] * static_cast<std::int64_t>(boxes.strides_bytes[i - 1]);
    }
    const auto* const from = static_cast<const std::byte*>(boxes.base) + offset;
    simt::check_global_read(from, static_cast<std::size_t>(values * (bytes ? 1 : 2)), 16);
    std::vector<float> row(static_cast<std::size_t>(values));
    for (std::size_t i = 0; i < row.size(); ++i)
      row[i] = bytes ? to_float(reinterpret_cast<const FP8*>(from)[i])
                     : to_float(reinterpret_cast<const BF16*>(from)[i]);
    return row;
  }
  static std::vector<float> cached(const Step& s, const TensorBoxes& boxes, std::int64_t page,
                                   std::int64_t head, std::int64_t slot, std::int64_t values) {
    return values_at(boxes, {slot % s.rows * s.dim, slot / s.rows, head, page}, values);
  }

  /// The query heads of a KV head.
  void attend(const Step& s, std::int64_t request, std::int64_t kv_head) const {
    const std::int64_t group = s.heads / s.kv_heads;
    const auto length = read_global<std::int32_t>(get<const std::int32_t*>("ptrSeqLensKv") + request);
    REQUIRE((length >= 1 && length <= get<std::int32_t>("mMaxSeqLenKv")));
    const std::int64_t tiles = (length + 127) / 128;
    std::vector<std::vector<float>> keys, values;
    for (std::int64_t t = 0; t < tiles * 128; ++t) {
      const std::int64_t page = page_of(s, request, t);
      keys.push_back(cached(s, s.k, page, kv_head, t % s.page, s.dim));
      values.push_back(cached(s, s.v, page, kv_head, t % s.page, s.v_dim));
    }
    for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const auto grouped = static_cast<std::int64_t>(s.q.dims[1]);
      const std::vector<float> query = values_at(s.q, {0, head % grouped, head / grouped, request}, s.dim);
      const std::int64_t parts = s.separate ? std::min(tiles, s.splits) : 1;
      for (std::int64_t part = 0; part < parts; ++part) {
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        std::vector<double> scores, o(static_cast<std::size_t>(s.v_dim));
        std::vector<std::size_t> tokens;
        for (std::int64_t tile = part; tile < tiles; tile += parts)
          for (std::int64_t t = tile * 128; t < (tile + 1) * 128; ++t)
            tokens.push_back(static_cast<std::size_t>(t));
        for (const std::size_t t : tokens) {
          double score = 0;
          for (std::size_t d = 0; d < query.size(); ++d) score += static_cast<double>(query[d]) * keys[t][d];
          scores.push_back(t < static_cast<std::size_t>(length) ? score
                                                                : -std::numeric_limits<double>::infinity());
          largest = std::max(largest, scores.back());
        }
        for (std::size_t i = 0; i < tokens.size(); ++i) {
          const double weight = std::exp(s.scale * (scores[i] - largest));
          sum += weight;
          for (std::size_t d = 0; d < o.size(); ++d) o[d] += weight * values[tokens[i]][d];
        }
        if (s.separate) {
          leave(s, request, head, part, {largest, sum}, o);
          continue;
        }
        auto* const stats = get<float*>("ptrSoftmaxStats") + (request * s.heads + head) * 2;
        write_global(stats, static_cast<float>(s.scale * largest));
        write_global(stats + 1, static_cast<float>(sum));
        auto* const out = get<BF16*>("ptrO") + (request * s.heads + head) * s.v_dim;
        for (std::int64_t d = 0; d < s.v_dim; ++d)
          write_global(out + d, to_bf16(static_cast<float>(o[static_cast<std::size_t>(d)] / sum)));
      }
    }
  }

  std::int64_t page_of(const Step& s, std::int64_t request, std::int64_t token) const {
    if (token / s.page >= s.width) FAIL("behind a request's page table");
    return read_global<std::int32_t>(get<const std::int32_t*>("ptrPageIdxKv") + request * s.width +
                                     token / s.page);
  }

  /// [requests, tiles of heads and of a head's values, splits, tile_q], of outputs [.., values of a tile].
  void leave(const Step& s, std::int64_t request, std::int64_t head, std::int64_t part,
             std::pair<double, double> stats, const std::vector<double>& o) const {
    const std::int64_t values = s.v_dim_per_block * (s.two_blocks ? 2 : 1), of_values = s.v_dim / values;
    const std::int64_t tiles = s.heads / s.tile_heads * of_values;
    for (std::int64_t d = 0; d < s.v_dim; ++d) {
      const std::int64_t tile = request * tiles + head / s.tile_heads * of_values + d / values;
      const std::int64_t row = (tile * s.splits + part) * s.tile_q + head % s.tile_heads;
      if (d % values == 0) {
        write_global(get<float*>("ptrPartialStats") + row * 2, static_cast<float>(stats.first));
        write_global(get<float*>("ptrPartialStats") + row * 2 + 1, static_cast<float>(stats.second));
      }
      write_global(get<BF16*>("ptrPartialO") + row * values + d % values,
                   to_bf16(static_cast<float>(o[static_cast<std::size_t>(d)])));
    }
  }

  std::map<std::string, std::pair<std::size_t, std::size_t>> offsets_;
  std::vector<std::unique_ptr<std::string>> names_;
  std::vector<TensorBoxes> maps_;
  const std::byte* parameter_ = nullptr;
};

/// The provider over such a driver, on a GPU that its kernels are made for.
inline std::unique_ptr<cuda::AttentionProvider> fake_trtllm_gen(const cuda::Gpu& gpu,
                                                                FakeKernelDriver** recorder = nullptr) {
  auto driver = std::make_unique<FakeKernelDriver>();
  if (recorder != nullptr) *recorder = driver.get();
  return cuda::make_trtllm_gen(std::move(driver), trtllm_gen_golden, 100, gpu);
}

}  // namespace helix::testing
