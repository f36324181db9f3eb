// The weights of a model in a Hugging Face checkpoint directory. Everything is looked up, and every shape compared, when
// it is opened, which reads headers alone; the values are read where and when a rank asks for them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/checkpoint/stored_matrix.hpp"
#include "kernels/checkpoint/tensor_files.hpp"
#include "kernels/checkpoint/tensor_names.hpp"
#include "kernels/ops/weight_source.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

class Checkpoint final : public WeightSource {
 public:
  /// Throws UsageError in one line that names tensor and file: one that the model has is missing or of another shape,
  /// one is there that the model has not, a file is damaged. What belongs to parts that are left out of the model, or
  /// scales activations or the KV cache, is not used.
  Checkpoint(const std::filesystem::path& directory, const ModelSpec& model);

  void read(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float* out) const override;
  void read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                    BF16* out) const override;
  void read_rounded(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float factor,
                    FP8* out) const override;
  const std::byte* rows_in_bf16(const WeightSlice& slice, std::int64_t first) const override;
  float largest(const WeightSlice& slice, std::int64_t first, std::int64_t rows, float known) const override;
  std::vector<float> vector(const TensorId& id) const override;

  /// Whether it has the model's draft layer, which it may leave out.
  bool has_draft_layer() const { return has_draft_layer_; }
  /// Of all its files.
  std::size_t bytes() const { return files_.file_bytes(); }

 private:
  /// Where a tensor is: rows from `first_row` on, or its transpose in every `column_step`-th column from
  /// `first_column` on.
  struct Place {
    const StoredMatrix* matrix = nullptr;
    std::int64_t first_row = 0;
    bool transposed = false;
    std::int64_t first_column = 0, column_step = 1;
  };
  /// Every `step`-th value from `first` on.
  struct VectorPlace {
    const MappedTensor* tensor = nullptr;
    std::int64_t first = 0, step = 1;
  };
  /// Where rows [first, first + rows) of a slice are.
  struct Part {
    const Place& place;
    Range rows, columns;
  };
  Part part(const WeightSlice& slice, std::int64_t first, std::int64_t rows) const;
  void find_root();
  /// The name that the files have for it, and how it lies in it; throws if they have none.
  std::pair<const MappedTensor*, Within> find(const ModelSpec& model, const TensorId& id) const;
  void add_matrix(const ModelSpec& model, const WeightSlice& whole);
  void add_vector(const ModelSpec& model, const TensorId& id);
  void refuse_surplus(const ModelSpec& model) const;
  bool is_left_out(const std::string& name, const ModelSpec& model) const;

  TensorFiles files_;
  std::string root_;                     // what names begin with: "model."
  std::array<std::int64_t, 2> block_{};  // of block-wise fp8
  bool has_draft_layer_ = false;
  std::map<std::string, StoredMatrix> matrices_;
  std::map<TensorId, Place> places_;
  std::map<TensorId, VectorPlace> vectors_;
};

}  // namespace helix
