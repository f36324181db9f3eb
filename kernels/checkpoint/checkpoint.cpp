#include "kernels/checkpoint/checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <variant>

#include "kernels/checkpoint/within.hpp"
#include "kernels/state/shard_plan.hpp"
#include "kernels/state/weight_plan.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/json_fields.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/model/config_json.hpp"

namespace helix {
namespace {

/// weight_block_size of the configuration; DeepSeek's, where it states none.
std::array<std::int64_t, 2> block_size(const std::filesystem::path& directory) {
  constexpr std::int64_t largest = 1 << 20;
  std::array<std::int64_t, 2> block{128, 128};
  const std::filesystem::path path = directory / "config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return block;
  const nlohmann::json root = parse_config(read_text_file(path, "config.json"), path);
  const JsonFields config(root, path);
  auto quantization = config.object("quantization_config");
  if (const auto inner = language_part(config); inner && inner->has("quantization_config"))
    quantization = inner->object("quantization_config");
  const auto* given = quantization ? quantization->array("weight_block_size") : nullptr;
  if (given == nullptr) return block;
  const auto valid = [](const nlohmann::json& side) {
    return side.is_number_unsigned() && side.get<std::uint64_t>() >= 1 &&
           side.get<std::uint64_t>() <= largest;
  };
  if (given->size() != 2 || !std::ranges::all_of(*given, valid))
    quantization->refuse("weight_block_size", "expected two whole numbers from 1");
  return {(*given)[0].get<std::int64_t>(), (*given)[1].get<std::int64_t>()};
}

/// One rank, which has all of the model, and its draft layer in a step with drafts.
RankPlan lone_rank(const ModelSpec& model, bool drafts) {
  const auto one = Instance::make({.model = model,
                                   .sharding = {},
                                   .shape = {.context = 1, .draft_tokens = drafts ? 1 : 0},
                                   .layers = model.layers});
  return {std::get<Instance>(one), 0};
}

/// All matrices of the model, whole.
std::vector<WeightSlice> all_matrices(const RankPlan& rank) {
  std::vector<WeightSlice> all{whole_tensor(rank.model(), 0, Tensor::embedding),
                               whole_tensor(rank.model(), 0, Tensor::lm_head)};
  for (const std::int64_t layer : rank.layers_held()) {
    for (const MatrixPlan& plan : plan_layer(rank, layer))
      for (const auto& slices : plan.matrices) all.insert(all.end(), slices.begin(), slices.end());
  }
  return all;
}

}  // namespace

Checkpoint::Checkpoint(const std::filesystem::path& directory, const ModelSpec& model)
    : files_(directory), block_(block_size(directory)) {
  find_root();
  has_draft_layer_ =
      model.draft_layers == 1 && files_.find(fmt::format("{}layers.{}.eh_proj.weight", root_, model.layers));
  const RankPlan rank = lone_rank(model, has_draft_layer_);
  for (const WeightSlice& whole : all_matrices(rank)) add_matrix(model, whole);
  for (const std::int64_t layer : rank.layers_held())
    for (const Tensor tensor : layer_vectors(model, layer)) add_vector(model, {tensor, layer, 0});
  add_vector(model, {Tensor::final_norm, 0, 0});
  refuse_surplus(model);
}

void Checkpoint::find_root() {
  constexpr std::string_view table = "embed_tokens.weight";
  root_ = "model.";                       // where there is none, which is then what is missing
  const std::string* shortest = nullptr;  // draft layers have tables of their own
  for (const auto& [name, tensor] : files_.all())
    if (name.ends_with(table) && (shortest == nullptr || name.size() < shortest->size())) shortest = &name;
  if (shortest != nullptr) root_ = shortest->substr(0, shortest->size() - table.size());
}

std::pair<const MappedTensor*, Within> Checkpoint::find(const ModelSpec& model, const TensorId& id) const {
  std::string tried;
  for (const Spelling& spelling : spellings()) {
    if (spelling.tensor != id.tensor || !lies_so(model, id.tensor, spelling.within)) continue;
    const std::string name = spelled(spelling, root_, id);
    for (const std::string_view packed : {"", "_packed"})  // what compressed-tensors calls NVFP4
      if (const MappedTensor* const found = files_.find(name + std::string(packed)))
        return {found, spelling.within};
    tried += fmt::format("{}'{}'", tried.empty() ? "" : " or ", name);
  }
  throw UsageError(fmt::format("{}: the tensor {} is missing", files_.list(), tried));
}

void Checkpoint::add_matrix(const ModelSpec& model, const WeightSlice& whole) {
  const auto [tensor, within] = find(model, whole.of);
  const auto place = matrices_.try_emplace(tensor->stored.name, files_, *tensor, block_).first;
  const StoredMatrix& matrix = place->second;
  const StoredShape expected = stored_shape(model, whole, within), found{matrix.rows(), matrix.cols()};
  if (found != expected) {
    throw UsageError(fmt::format("{}: tensor '{}' is {}, a matrix of {} x {}; the model's is {} x {}",
                                 tensor->file, tensor->stored.name, tensor->stored.description(), found.rows,
                                 found.cols, expected.rows, expected.cols));
  }
  places_[whole.of] = {.matrix = &matrix,
                       .first_row = first_row(model, whole, within),
                       .transposed = within == Within::w_uk_of_kv_b || is_by_inputs(within),
                       .first_column = first_of(within),
                       .column_step = step_of(within)};
}

void Checkpoint::add_vector(const ModelSpec& model, const TensorId& id) {
  const auto [tensor, within] = find(model, id);
  const std::int64_t values = step_of(within) * vector_length(model, id.tensor), experts = model.moe.experts;
  const std::vector<std::int64_t> expected =
      is_by_inputs(within) ? std::vector{experts, values / experts} : vector_shape(model, id.tensor);
  std::vector<std::int64_t> found = tensor->stored.shape;
  if (found.size() > expected.size() && found.front() == 1)
    found.erase(found.begin());  // ERNIE-4.5: a row of biases
  if (found != expected) {
    throw UsageError(fmt::format("{}: tensor '{}' is {}; the model's has {} values", tensor->file,
                                 tensor->stored.name, tensor->stored.description(),
                                 fmt::join(expected, " x ")));
  }
  read_values(*tensor, 0, 0, nullptr);  // refuses what cannot be read
  vectors_[id] = {.tensor = tensor, .first = first_of(within), .step = step_of(within)};
}

bool Checkpoint::is_left_out(const std::string& name, const ModelSpec& model) const {
  for (const std::string_view end : {".input_scale", ".input_global_scale", ".k_scale", ".v_scale",
                                     ".q_scale", ".kv_scale", "rotary_emb.inv_freq"})
    if (name.ends_with(end)) return true;
  if (model.tied_embeddings && name.ends_with("lm_head.weight")) return true;
  if (model.left_out.empty()) return false;
  // Layers behind the model's predict further tokens, as mtp_layers do; what does not begin as it does is of other
  // parts.
  if (name.starts_with(root_ + "mtp")) return true;
  const std::string layers = root_ + "layers.";
  if (!name.starts_with(layers)) return !name.starts_with(root_);
  return std::atoll(name.c_str() + layers.size()) >= model.layers;
}

void Checkpoint::refuse_surplus(const ModelSpec& model) const {
  std::set<std::string_view> used;
  for (const auto& [name, matrix] : matrices_) {
    used.insert(name);
    for (const std::string& scale : matrix.companions()) used.insert(files_.find(scale)->stored.name);
  }
  for (const auto& [id, place] : vectors_) used.insert(place.tensor->stored.name);
  const MappedTensor* first = nullptr;
  int count = 0;
  for (const auto& [name, tensor] : files_.all()) {
    if (used.contains(name) || is_left_out(name, model)) continue;
    if (count++ == 0) first = &tensor;
  }
  if (count == 0) return;
  throw UsageError(fmt::format("{}: tensor '{}' {} no part of the model that its configuration describes",
                               first->file, excerpt(first->stored.name),
                               count == 1 ? "is" : fmt::format("and {} more are", count - 1)));
}

Checkpoint::Part Checkpoint::part(const WeightSlice& slice, std::int64_t first, std::int64_t rows) const {
  const Place& place = places_.at(slice.of);
  const Range of_slice{slice.row0 + first, slice.row0 + first + rows},
      columns{slice.col0, slice.col0 + slice.cols};
  const auto behind_first = [&](Range range) {
    return Range{place.first_row + range.begin, place.first_row + range.end};
  };
  if (place.transposed) {
    const auto column = [&place](std::int64_t row) { return place.first_column + place.column_step * row; };
    return {place, behind_first(columns), {column(of_slice.begin), column(of_slice.end - 1) + 1}};
  }
  return {place, behind_first(of_slice), columns};
}

void Checkpoint::read(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float* out) const {
  const Part at = part(slice, first, rows);
  if (!at.place.transposed) return at.place.matrix->read(at.rows, at.columns, out);
  const std::int64_t width = at.columns.size(), step = at.place.column_step;
  std::vector<float> turned(static_cast<std::size_t>(width * slice.cols));
  at.place.matrix->read(at.rows, at.columns, turned.data());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < slice.cols; ++c)
      out[r * slice.cols + c] = turned[static_cast<std::size_t>(c * width + r * step)];
}

void Checkpoint::read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                              BF16* out) const {
  const Part at = part(slice, first, rows);
  if (at.place.transposed) return WeightSource::read_rounded(slice, first, rows, factor, out);
  at.place.matrix->read_rounded(at.rows, at.columns, factor, out);
}

void Checkpoint::read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                              FP8* out) const {
  const Part at = part(slice, first, rows);
  if (at.place.transposed) return WeightSource::read_rounded(slice, first, rows, factor, out);
  at.place.matrix->read_rounded(at.rows, at.columns, factor, out);
}

const std::byte* Checkpoint::rows_in_bf16(const WeightSlice& slice, std::int64_t first) const {
  const Part at = part(slice, first, 0);
  return at.place.transposed ? nullptr : at.place.matrix->rows_in_bf16(at.rows.begin, at.columns);
}

float Checkpoint::largest(const WeightSlice& slice, std::int64_t first, std::int64_t rows,
                          float known) const {
  const Part at = part(slice, first, rows);
  if (at.place.column_step > 1) return WeightSource::largest(slice, first, rows, known);
  return at.place.matrix->largest(at.rows, at.columns, known);
}

std::vector<float> Checkpoint::vector(const TensorId& id) const {
  const VectorPlace& place = vectors_.at(id);
  const std::int64_t all = place.tensor->stored.values();
  std::vector<float> values(static_cast<std::size_t>(all));
  read_values(*place.tensor, 0, all, values.data());
  for (std::int64_t i = 0; i < all / place.step; ++i)
    values[static_cast<std::size_t>(i)] = values[static_cast<std::size_t>(place.first + i * place.step)];
  values.resize(static_cast<std::size_t>(all / place.step));
  return values;
}

}  // namespace helix
