#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <memory>

#include "kernels/checkpoint/checkpoint.hpp"
#include "kernels/checkpoint/written_checkpoint.hpp"
#include "kernels/state/shard_plan.hpp"
#include "kernels/state/weight_plan.hpp"
#include "tests/scratch_folder.hpp"
#include "usage_error.hpp"

using namespace helix;
using namespace helix::testing;
using Catch::Matchers::Contains;

namespace {

ModelSpec small_model(const char* name) {
  ModelSpec model = load_model(name);
  model.layers = 2;
  return model;
}

/// Values that tell their place: a number of the tensor and of the value's index.
WrittenTensor counting(int tensor, std::vector<std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t length : shape) count *= length;
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(tensor * 100'000 + i));
  return {"F32", std::move(shape), bytes_of(values)};
}

/// Every tensor of a dense model with separate projections.
WrittenTensors dense_tensors(const ModelSpec& m) {
  const AttentionSpec& a = m.attention;
  WrittenTensors tensors;
  int number = 0;
  const auto put = [&](const std::string& name, std::vector<std::int64_t> shape) {
    tensors[name] = counting(number++, std::move(shape));
  };
  put("model.embed_tokens.weight", {m.vocab, m.hidden});
  put("lm_head.weight", {m.vocab, m.hidden});
  put("model.norm.weight", {m.hidden});
  for (std::int64_t l = 0; l < m.layers; ++l) {
    const std::string layer = fmt::format("model.layers.{}.", l);
    put(layer + "input_layernorm.weight", {m.hidden});
    put(layer + "post_attention_layernorm.weight", {m.hidden});
    put(layer + "self_attn.q_proj.weight", {a.q_heads * a.qk_head_dim, m.hidden});
    put(layer + "self_attn.k_proj.weight", {a.kv_heads * a.qk_head_dim, m.hidden});
    put(layer + "self_attn.v_proj.weight", {a.kv_heads * a.v_head_dim, m.hidden});
    put(layer + "self_attn.o_proj.weight", {m.hidden, a.q_heads * a.v_head_dim});
    put(layer + "mlp.gate_proj.weight", {m.ffn, m.hidden});
    put(layer + "mlp.up_proj.weight", {m.ffn, m.hidden});
    put(layer + "mlp.down_proj.weight", {m.hidden, m.ffn});
  }
  return tensors;
}

ModelSpec narrow_gqa() {
  ModelSpec model = small_model("tiny-gqa");
  model.hidden = 8;
  model.ffn = 6;
  model.vocab = 5;
  model.attention.q_heads = 4;
  model.attention.kv_heads = 2;
  model.attention.qk_head_dim = model.attention.v_head_dim = 4;
  return model;
}

std::vector<float> read(const Checkpoint& checkpoint, const WeightSlice& slice) {
  std::vector<float> out(static_cast<std::size_t>(slice.rows * slice.cols));
  checkpoint.read(slice, 0, slice.rows, out.data());
  return out;
}

std::string refusal(const ModelSpec& model, const WrittenTensors& tensors) {
  const ScratchFolder folder;
  folder.write("model.safetensors", safetensors_file(tensors));
  return usage_error([&] { Checkpoint(folder.path, model); });
}

struct WrittenCheckpoint {
  WrittenCheckpoint(const WrittenTensors& tensors, const ModelSpec& model)
      : folder(written(tensors)), checkpoint(folder->path, model) {}

  static std::unique_ptr<ScratchFolder> written(const WrittenTensors& tensors) {
    auto folder = std::make_unique<ScratchFolder>();
    folder->write("model.safetensors", safetensors_file(tensors));
    return folder;
  }

  std::unique_ptr<ScratchFolder> folder;
  Checkpoint checkpoint;
};

constexpr Tensor of_a_dense_layer[] = {Tensor::q,    Tensor::k,  Tensor::v,   Tensor::o,
                                       Tensor::gate, Tensor::up, Tensor::down};

}  // namespace

TEST_CASE("fused projections are the separate ones under each other") {
  const ModelSpec model = narrow_gqa();
  const WrittenTensors separate = dense_tensors(model);
  WrittenTensors fused = separate;
  const auto fuse = [&](const std::string& name, const std::vector<std::string>& parts) {
    WrittenTensor whole{"F32", {0, model.hidden}, ""};
    for (const std::string& part : parts) {
      whole.shape[0] += fused.at(part).shape[0];
      whole.bytes += fused.at(part).bytes;
      fused.erase(part);
    }
    fused[name] = whole;
  };
  for (const char* l : {"model.layers.0.", "model.layers.1."}) {
    const std::string attention = std::string(l) + "self_attn.", mlp = std::string(l) + "mlp.";
    fuse(attention + "qkv_proj.weight",
         {attention + "q_proj.weight", attention + "k_proj.weight", attention + "v_proj.weight"});
    fuse(mlp + "gate_up_proj.weight", {mlp + "gate_proj.weight", mlp + "up_proj.weight"});
  }
  const WrittenCheckpoint one(separate, model), other(fused, model);
  for (const Tensor tensor : of_a_dense_layer) {
    WeightSlice slice = whole_tensor(model, 0, tensor, 1);
    slice.row0 = 1;
    slice.rows -= 2;
    slice.col0 = 1;
    slice.cols -= 3;
    CAPTURE(static_cast<int>(tensor));
    CHECK(read(one.checkpoint, slice) == read(other.checkpoint, slice));
  }
}

TEST_CASE("NVFP4 as compressed-tensors names it is that of Model Optimizer") {
  ModelSpec model = narrow_gqa();
  model.hidden = model.ffn = 32;
  WrittenTensors by_modelopt = dense_tensors(model), by_compressed = by_modelopt;
  int number = 0;
  for (const auto& [name, tensor] : dense_tensors(model)) {
    if (tensor.shape.size() != 2 || name.find("proj") == name.npos) continue;
    const std::int64_t rows = tensor.shape[0], cols = tensor.shape[1];
    std::string values, scales;
    for (std::int64_t i = 0; i < rows * cols / 2; ++i) values += static_cast<char>(i * 37 + ++number);
    for (std::int64_t i = 0; i < rows * cols / 16; ++i) scales += static_cast<char>(40 + (i + number) % 50);
    const WrittenTensor packed{"U8", {rows, cols / 2}, values}, blocks{"F8_E4M3", {rows, cols / 16}, scales};
    const float inverse = 0x1p6f;
    by_modelopt[name] = packed;
    by_modelopt[name + "_scale"] = blocks;
    by_modelopt[name + "_scale_2"] = {"F32", {}, bytes_of(std::vector{1.0f / inverse})};
    by_compressed.erase(name);
    by_compressed[name + "_packed"] = packed;
    by_compressed[name + "_scale"] = blocks;
    by_compressed[name + "_global_scale"] = {"F32", {1}, bytes_of(std::vector{inverse})};
    const std::string module = name.substr(0, name.rfind('.'));
    by_compressed[module + ".input_global_scale"] = {"F32", {1}, bytes_of(std::vector{3.0f})};
  }
  const WrittenCheckpoint one(by_modelopt, model), other(by_compressed, model);
  for (const Tensor tensor : of_a_dense_layer) {
    const WeightSlice slice = whole_tensor(model, 0, tensor, 1);
    CAPTURE(static_cast<int>(tensor));
    const std::vector<float> values = read(other.checkpoint, slice);
    CHECK(read(one.checkpoint, slice) == values);
    CHECK(other.checkpoint.largest(slice, 0, slice.rows, 0.0f) > 0.0f);
  }
}

TEST_CASE("names begin as the files have them, and parts that are left out are not looked at") {
  ModelSpec model = narrow_gqa();
  WrittenTensors tensors;
  for (auto& [name, tensor] : dense_tensors(model)) tensors["language_model." + name] = tensor;
  CHECK(refusal(model, tensors).empty());
  tensors["vision_tower.patch.weight"] = counting(1, {2, 2});
  tensors["language_model.model.layers.2.eh_proj.weight"] = counting(1, {2, 2});
  CHECK_THAT(refusal(model, tensors), Contains("and 1 more are no part of the model"));
  model.left_out = {"vision_config", "num_nextn_predict_layers = 1"};
  CHECK(refusal(model, tensors).empty());
}

TEST_CASE("the size of fp8 blocks is the configuration's, or its language model's") {
  const ModelSpec model = narrow_gqa();
  WrittenTensors tensors = dense_tensors(model);
  const std::string name = "model.layers.0.self_attn.o_proj.weight";
  tensors[name] = {"F8_E4M3", {8, 16}, std::string(128, '\x38')};  // ones
  tensors[name + "_scale_inv"] = {"F32", {4, 4}, bytes_of(std::vector<float>(16, 2.0f))};
  const auto folder = WrittenCheckpoint::written(tensors);
  const auto open = [&] { return usage_error([&] { Checkpoint(folder->path, model); }); };
  CHECK_THAT(open(), Contains("one for each 128 x 128"));
  const std::string blocks = R"({"quantization_config": {"weight_block_size": [2, 4]}, "other": NaN})";
  folder->write("config.json", blocks);
  CHECK(open().empty());
  folder->write("config.json", "{\"text_config\": " + blocks + "}");
  CHECK(open().empty());
  folder->write("config.json", "{");
  CHECK_THAT(open(), Contains("config.json: malformed JSON"));
}

TEST_CASE("a draft layer is read where the files have it, and may be missing") {
  ModelSpec model = narrow_gqa();
  WrittenTensors tensors = dense_tensors(model);
  model.draft_layers = 1;
  CHECK_FALSE(WrittenCheckpoint(tensors, model).checkpoint.has_draft_layer());
  const std::string layer = fmt::format("model.layers.{}.", model.layers);
  for (const auto& [name, tensor] : dense_tensors(model))
    if (name.starts_with("model.layers.1.")) tensors[layer + name.substr(15)] = tensor;
  tensors[layer + "eh_proj.weight"] = counting(3, {model.hidden, 2 * model.hidden});
  for (const char* norm : {"enorm", "hnorm", "shared_head.norm"})
    tensors[fmt::format("{}{}.weight", layer, norm)] = counting(1, {model.hidden});
  // What it has of its own is the model's.
  model.left_out = {"num_nextn_predict_layers = 1"};
  tensors[layer + "embed_tokens.weight"] = tensors[layer + "shared_head.head.weight"] =
      counting(1, {model.vocab, model.hidden});
  const WrittenCheckpoint written(tensors, model);
  CHECK(written.checkpoint.has_draft_layer());
  const WeightSlice input = whole_tensor(model, 0, Tensor::draft_input, model.layers);
  CHECK(std::ssize(read(written.checkpoint, input)) == 2 * model.hidden * model.hidden);
  CHECK(std::ssize(written.checkpoint.vector({Tensor::draft_out_norm, model.layers, 0})) == model.hidden);
  tensors.erase(layer + "hnorm.weight");
  CHECK_THAT(refusal(model, tensors), Contains(layer + "hnorm.weight' is missing"));
}

TEST_CASE("a tensor that is missing, surplus or misshapen is one line with its name and file") {
  const ModelSpec model = narrow_gqa();
  const WrittenTensors good = dense_tensors(model);
  CHECK(refusal(model, good).empty());

  WrittenTensors tensors = good;
  tensors.erase("model.layers.1.self_attn.k_proj.weight");
  CHECK_THAT(refusal(model, tensors),
             Contains("model.safetensors: the tensor 'model.layers.1.self_attn.k_proj.weight' or "
                      "'model.layers.1.self_attn.qkv_proj.weight' "
                      "is missing"));
  tensors = good;
  tensors.erase("model.layers.0.input_layernorm.weight");
  CHECK_THAT(refusal(model, tensors), Contains("'model.layers.0.input_layernorm.weight' is missing"));
  tensors = good;
  tensors["model.layers.0.self_attn.q_proj.bias"] = counting(1, {16});
  CHECK_THAT(
      refusal(model, tensors),
      Contains("model.safetensors: tensor 'model.layers.0.self_attn.q_proj.bias' is no part of the model"));
  tensors = good;
  tensors["model.layers.0.mlp.up_proj.weight"] = counting(1, {7, 8});
  CHECK_THAT(refusal(model, tensors),
             Contains("tensor 'model.layers.0.mlp.up_proj.weight' is F32 [7, 8], a matrix of "
                      "7 x 8; the model's is 6 x 8"));
  tensors = good;
  tensors["model.norm.weight"] = counting(1, {9});
  CHECK_THAT(refusal(model, tensors), Contains("'model.norm.weight' is F32 [9]; the model's has 8 values"));
}
