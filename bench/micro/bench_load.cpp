// The weights of a rank out of a checkpoint whose files are in the page cache, beside a plain read of the same files.
// Arguments: threads.
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <variant>

#include "bench/micro/cold_samples.hpp"
#include "kernels/checkpoint/checkpoint.hpp"
#include "kernels/checkpoint/tensor_files.hpp"
#include "kernels/cpu/machine/parallel.hpp"
#include "kernels/ops/bf16.hpp"
#include "kernels/state/weight_store.hpp"

namespace helix {
namespace {

using Clock = std::chrono::steady_clock;

/// Layers of Llama-3.2-1B, with a small vocabulary.
ModelSpec small_llama() {
  ModelSpec model = load_model("llama-3.2-1b");
  model.layers = 12;
  model.vocab = 32000;
  model.tied_embeddings = false;
  return model;
}

/// A checkpoint of it with random values, 1.7 GB of bf16 or 1 GB with fp8 in blocks of 128 x 128 (embedding and head
/// are bf16), in a folder that goes at the end.
class WrittenCheckpoint {
 public:
  explicit WrittenCheckpoint(DType stored) : stored_(stored) {
    std::string name = (std::filesystem::temp_directory_path() / "helix-load-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder " + name + " can be made");
    folder_ = name;
    add("model.embed_tokens.weight", model.vocab, model.hidden, DType::bf16);
    add("lm_head.weight", model.vocab, model.hidden, DType::bf16);
    add_vector("model.norm.weight", model.hidden);
    for (std::int64_t l = 0; l < model.layers; ++l) add_layer(fmt::format("model.layers.{}.", l));
    write();
    weights = std::make_unique<Checkpoint>(folder_, model);
  }
  ~WrittenCheckpoint() {
    std::error_code left;
    std::filesystem::remove_all(folder_, left);
  }
  WrittenCheckpoint(const WrittenCheckpoint&) = delete;
  WrittenCheckpoint& operator=(const WrittenCheckpoint&) = delete;

  std::string file() const { return folder_ / "model.safetensors"; }

  const ModelSpec model = small_llama();
  std::unique_ptr<Checkpoint> weights;

 private:
  void add_layer(const std::string& layer) {
    const AttentionSpec& a = model.attention;
    add_vector(layer + "input_layernorm.weight", model.hidden);
    add_vector(layer + "post_attention_layernorm.weight", model.hidden);
    add(layer + "self_attn.q_proj.weight", a.q_heads * a.qk_head_dim, model.hidden, stored_);
    add(layer + "self_attn.k_proj.weight", a.kv_heads * a.qk_head_dim, model.hidden, stored_);
    add(layer + "self_attn.v_proj.weight", a.kv_heads * a.v_head_dim, model.hidden, stored_);
    add(layer + "self_attn.o_proj.weight", model.hidden, a.q_heads * a.v_head_dim, stored_);
    add(layer + "mlp.gate_proj.weight", model.ffn, model.hidden, stored_);
    add(layer + "mlp.up_proj.weight", model.ffn, model.hidden, stored_);
    add(layer + "mlp.down_proj.weight", model.hidden, model.ffn, stored_);
  }
  void add(const std::string& name, std::int64_t rows, std::int64_t cols, DType type) {
    if (type == DType::bf16) return append(name, "BF16", {rows, cols}, 2);
    append(name, "F8_E4M3", {rows, cols}, 1);
    append(name + "_scale_inv", "F32", {(rows + 127) / 128, (cols + 127) / 128}, 4);
  }
  void add_vector(const std::string& name, std::int64_t values) { append(name, "BF16", {values}, 2); }
  void append(const std::string& name, const char* type, const std::vector<std::int64_t>& shape,
              std::int64_t value_bytes) {
    std::int64_t bytes = value_bytes;
    for (const std::int64_t length : shape) bytes *= length;
    header_[name] = {{"dtype", type}, {"shape", shape}, {"data_offsets", {bytes_, bytes_ + bytes}}};
    bytes_ += bytes;
  }

  /// Values around 0.02, the same million over and over. Of fp8 every block has one of 448, as makers scale them.
  static std::string random_values(const std::string& type) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 0.02f);
    std::string values;
    for (int i = 0; i < 1 << 20; ++i) {
      const float x = normal(random);
      const BF16 wide = to_bf16(x);
      const FP8 narrow = to_fp8(i % 1000 == 0 ? 448.0f : 4096.0f * x);
      const float scale = 1e-4f * (1.0f + x);
      if (type == "BF16") values.append(reinterpret_cast<const char*>(&wide), sizeof(wide));
      if (type == "F8_E4M3") values.append(reinterpret_cast<const char*>(&narrow), sizeof(narrow));
      if (type == "F32") values.append(reinterpret_cast<const char*>(&scale), sizeof(scale));
    }
    return values;
  }
  void write() const {
    const std::string text = header_.dump();
    const std::uint64_t length = text.size();
    std::ofstream out(file(), std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof(length));
    out << text;
    std::map<std::string, std::string> patterns;
    for (const char* type : {"BF16", "F8_E4M3", "F32"}) patterns[type] = random_values(type);
    for (const auto& [name, entry] : header_.items()) {
      const std::string& pattern = patterns.at(entry["dtype"].get<std::string>());
      for (std::int64_t left =
               entry["data_offsets"][1].get<std::int64_t>() - entry["data_offsets"][0].get<std::int64_t>();
           left > 0; left -= std::ssize(pattern))
        out.write(pattern.data(), std::min<std::int64_t>(left, std::ssize(pattern)));
    }
    if (!out.flush()) throw std::runtime_error(file() + " cannot be written");
  }

  DType stored_;
  std::filesystem::path folder_;
  nlohmann::ordered_json header_;
  std::int64_t bytes_ = 0;
};

const WrittenCheckpoint& checkpoint(DType stored) {
  static const WrittenCheckpoint bf16(DType::bf16);
  if (stored == DType::bf16) return bf16;
  static const WrittenCheckpoint fp8(DType::fp8);
  return fp8;
}

/// The file into new memory of the backend's, each thread a part of it.
void read_file(const WrittenCheckpoint& from, Backend& backend) {
  const auto bytes = static_cast<std::int64_t>(from.weights->bytes());
  const auto memory = backend.allocate(static_cast<std::size_t>(bytes));
  const int file = open(from.file().c_str(), O_RDONLY | O_CLOEXEC);
  in_parallel(backend.threads(), [&](int thread, int team) {
    const Range mine = split(bytes, thread, team);
    for (std::int64_t at = mine.begin; at < mine.end;) {
      const ssize_t got = pread(file, memory->data() + at,
                                static_cast<std::size_t>(std::min<std::int64_t>(mine.end - at, 1 << 20)), at);
      if (got <= 0) std::abort();
      at += got;
    }
  });
  close(file);
}

/// What no loading can undercut: the mapped file is read once and `held` bytes of new memory written once, without a
/// conversion or a layout.
void copy_file(const MappedFile& file, std::size_t held, Backend& backend) {
  constexpr std::int64_t chunk = 1 << 16;
  const std::int64_t bytes = std::ssize(file.bytes());
  const double growth = static_cast<double>(held) / static_cast<double>(bytes);
  const auto memory = backend.allocate(held + 2 * chunk);
  in_parallel(backend.threads(), [&](int thread, int team) {
    const Range mine = split(bytes, thread, team);
    for (std::int64_t at = mine.begin; at < mine.end; at += chunk) {
      const std::byte* const from = file.bytes().data() + at;
      const auto count = static_cast<std::size_t>(std::min(chunk, mine.end - at));
      std::byte* const to = memory->data() + static_cast<std::int64_t>(growth * static_cast<double>(at));
      std::memcpy(to, from,
                  count);  // of less than one byte a byte the next chunk covers the rest, in the cache
      if (growth > 1.0)
        std::memcpy(to + count, from, static_cast<std::size_t>((growth - 1.0) * static_cast<double>(count)));
    }
  });
}

template <class Work>
double seconds_of(const Work& work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Counters: bytes_per_second of loading, read_fraction, the time of reading over that of loading, and best_fraction, over
/// that of copy_file; the three alternate.
template <DType stored, DType held>
void load(benchmark::State& state) {
  const WrittenCheckpoint& from = checkpoint(stored);
  const std::unique_ptr<Backend> backend = make_cpu_backend(static_cast<int>(state.range(0)));
  const auto instance = Instance::make({.model = from.model,
                                        .sharding = {},
                                        .shape = {.context = 1, .batch = 1, .weight_dtype = held},
                                        .layers = from.model.layers});
  const RankPlan rank(std::get<Instance>(instance), 0);
  read_file(from, *backend);  // so that the page cache has it
  const MappedFile mapped(from.file());
  std::size_t held_bytes = 0;
  std::vector<double> loading, reading, copying;
  for (auto _ : state) {
    reading.push_back(seconds_of([&] { read_file(from, *backend); }));
    WeightStore store(*backend);
    loading.push_back(seconds_of([&] { store.load(rank, from.weights.get()); }));
    held_bytes = store.bytes();
    store.release();
    copying.push_back(seconds_of([&] { copy_file(mapped, held_bytes, *backend); }));
    state.SetIterationTime(loading.back());
  }
  state.counters["bytes_per_second"] = static_cast<double>(from.weights->bytes()) / median(loading);
  state.counters["read_bytes_per_second"] = static_cast<double>(from.weights->bytes()) / median(reading);
  state.counters["read_fraction"] = median(reading) / median(loading);
  state.counters["best_fraction"] = median(reading) / median(copying);
  state.counters["written_a_byte"] =
      static_cast<double>(held_bytes) / static_cast<double>(from.weights->bytes());
}

void settings(benchmark::internal::Benchmark* b) {
  b->ArgName("threads")->Arg(1)->Arg(2)->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);
}
BENCHMARK((load<DType::bf16, DType::bf16>))->Name("load/bf16_as_bf16")->Apply(settings);
BENCHMARK((load<DType::bf16, DType::fp8>))->Name("load/bf16_as_fp8")->Apply(settings);
BENCHMARK((load<DType::fp8, DType::fp8>))->Name("load/fp8_as_fp8")->Apply(settings);
BENCHMARK((load<DType::fp8, DType::bf16>))->Name("load/fp8_as_bf16")->Apply(settings);

}  // namespace
}  // namespace helix
