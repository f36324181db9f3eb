#include "kernels/checkpoint/stored_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "kernels/checkpoint/narrowed_bf16.hpp"
#include "kernels/checkpoint/rescaled_e4m3.hpp"
#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/rounding.hpp"
#include "kernels/ops/simd_clones.hpp"
#include "roofline/base/error.hpp"

namespace helix {
namespace {

[[noreturn]] void refuse(const MappedTensor& tensor, const std::string& what) {
  throw UsageError(fmt::format("{}: tensor '{}': {}", tensor.file, tensor.stored.name, what));
}

// Tensors need not lie at multiples of their values' size.
template <class T>
T value_at(const std::byte* data, std::int64_t i) {
  T value;
  std::memcpy(&value, data + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

HELIX_SIMD_CLONES void widen_bf16(const std::byte* data, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = std::bit_cast<float>(std::uint32_t{value_at<std::uint16_t>(data, i)} << 16);
}

/// Exponents of 5 bits with a bias of 15: shifted into place they are 2^112 too small, subnormals as well.
HELIX_SIMD_CLONES void widen_f16(const std::byte* data, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t half = value_at<std::uint16_t>(data, i);
    const std::uint32_t sign = (half & 0x8000u) << 16;
    const float magnitude = std::bit_cast<float>((half & 0x7fffu) << 13) * 0x1p112f;
    const std::uint32_t not_finite = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    out[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign | not_finite);
  }
}

/// As to_float, without a branch: a subnormal is what the last bits of a float near 2^14 are worth.
inline float e4m3_value(std::byte stored) {
  const auto bits = static_cast<std::uint32_t>(stored), magnitude = bits & 0x7fu;
  const float subnormal = std::bit_cast<float>(magnitude | std::bit_cast<std::uint32_t>(0x1p14f)) - 0x1p14f;
  const std::uint32_t is_subnormal = 0u - static_cast<std::uint32_t>(magnitude < 8u),
                      is_nan = 0u - static_cast<std::uint32_t>(magnitude == 0x7fu);
  const std::uint32_t value = (std::bit_cast<std::uint32_t>(subnormal) & is_subnormal) |
                              (((magnitude << 20) + (120u << 23)) & ~is_subnormal);
  return std::bit_cast<float>(value | (is_nan & 0x7fc00000u) | (bits & 0x80u) << 24);
}

HELIX_SIMD_CLONES void widen_e4m3(const std::byte* data, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = e4m3_value(data[i]);
}

HELIX_SIMD_CLONES void multiply(float* x, std::int64_t count, float factor) {
  for (std::int64_t i = 0; i < count; ++i) x[i] *= factor;
}

// Of magnitudes as whole numbers; what is not a number is none.
HELIX_SIMD_CLONES float largest_bf16(const std::byte* data, std::int64_t count) {
  std::uint16_t largest = 0;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<std::uint16_t>(value_at<std::uint16_t>(data, i) & 0x7fffu);
    const auto number = static_cast<std::uint16_t>(magnitude > 0x7f80u ? 0 : magnitude);
    largest = number > largest ? number : largest;
  }
  return to_float(BF16{largest});
}
/// Raises each of `largest` to the magnitude's bits.
HELIX_SIMD_CLONES void raise_to_e4m3(const std::byte* data, std::int64_t count, std::uint8_t* largest) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto magnitude = static_cast<std::uint8_t>(static_cast<std::uint8_t>(data[i]) & 0x7fu);
    const auto number = static_cast<std::uint8_t>(magnitude == 0x7fu ? 0 : magnitude);
    largest[i] = number > largest[i] ? number : largest[i];
  }
}

void widen_e2m1(const std::byte* data, Range columns, float* out) {
  for (std::int64_t c = columns.begin; c < columns.end; ++c) {
    const auto pair = static_cast<unsigned>(data[c / 2]);
    *out++ = e2m1_to_float(c % 2 == 0 ? pair & 0xfu : pair >> 4);
  }
}

bool is_number(const StoredTensor& tensor) {
  return tensor.values() == 1 && tensor.shape.size() <= 1;
}

float number(const MappedTensor& tensor) {
  if (!is_number(tensor.stored))
    refuse(tensor, "one number is expected, it is " + tensor.stored.description());
  float value = 0.0f;
  read_values(tensor, 0, 1, &value);
  return value;
}

}  // namespace

void read_values(const MappedTensor& tensor, std::int64_t first, std::int64_t count, float* out) {
  const auto from = [&](std::size_t size) { return tensor.data + static_cast<std::size_t>(first) * size; };
  switch (tensor.stored.type) {
    case StoredType::f32:
      if (count > 0) std::memcpy(out, from(4), static_cast<std::size_t>(count) * 4);
      return;
    case StoredType::f16:
      return widen_f16(from(2), count, out);
    case StoredType::bf16:
      return widen_bf16(from(2), count, out);
    case StoredType::f8_e4m3:
      return widen_e4m3(from(1), count, out);
    default:
      refuse(tensor,
             fmt::format("no weights are read from {}; supported: F32, F16, BF16, F8_E4M3, and U8 for NVFP4",
                         tensor.stored.description()));
  }
}

StoredMatrix::StoredMatrix(const TensorFiles& files, const MappedTensor& values,
                           std::array<std::int64_t, 2> block)
    : values_(&values) {
  const StoredTensor& stored = values.stored;
  if (stored.shape.size() < 2 || stored.shape.size() > 3) {
    refuse(values, "a matrix is expected, it is " + stored.description());
  }
  cols_ = stored.shape.back();
  rows_ = stored.shape[0] * (stored.shape.size() == 3 ? stored.shape[1] : 1);
  if (stored.type == StoredType::f8_e4m3) {
    find_scales(files, block);
  } else if (stored.type == StoredType::u8) {
    cols_ *= 2;
    find_nvfp4_scales(files);
  } else {
    read_values(values, 0, 0, nullptr);  // refuses what cannot be read
  }
}

void StoredMatrix::find_scales(const TensorFiles& files, std::array<std::int64_t, 2> block) {
  const MappedTensor* found = files.find(name() + "_scale_inv");
  if (found == nullptr) found = files.find(name() + "_scale");
  if (found == nullptr)
    refuse(*values_, fmt::format("F8_E4M3 without '{0}_scale_inv' or '{0}_scale'", name()));
  read_values(*found, 0, 0, nullptr);  // refuses what cannot be read
  scales_.tensor = found;
  const std::vector<std::int64_t>& shape = found->stored.shape;
  const auto parts = [](std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; };
  if (is_number(found->stored)) {
    scales_ = {.tensor = found, .block_rows = rows_, .block_columns = cols_, .stride = 0};
  } else if (shape.front() == rows_ && found->stored.values() == rows_) {
    scales_ = {.tensor = found, .block_rows = 1, .block_columns = cols_, .stride = 1};
  } else if (shape == std::vector{parts(rows_, block[0]), parts(cols_, block[1])}) {
    scales_ = {.tensor = found, .block_rows = block[0], .block_columns = block[1], .stride = shape[1]};
  } else {
    refuse(*found, fmt::format("{} are no scales of {} {}: one, one a row, or one for each {} x {}",
                               found->stored.description(), name(), values_->stored.description(), block[0],
                               block[1]));
  }
}

void StoredMatrix::find_nvfp4_scales(const TensorFiles& files) {
  constexpr std::string_view packed = "_packed";
  const bool divided = name().ends_with(packed);
  const std::string stem = divided ? name().substr(0, name().size() - packed.size()) : name(),
                    blocks_name = stem + "_scale",
                    number_name = stem + (divided ? "_global_scale" : "_scale_2");
  scales_ = {.tensor = files.find(blocks_name), .block_columns = kNvfp4Block, .stride = cols_ / kNvfp4Block};
  second_scale_ = files.find(number_name);
  if (scales_.tensor == nullptr || second_scale_ == nullptr)
    refuse(*values_, fmt::format("U8, which is NVFP4, without '{}' and '{}'", blocks_name, number_name));
  const StoredTensor& blocks = scales_.tensor->stored;
  if (cols_ % kNvfp4Block != 0 || blocks.type != StoredType::f8_e4m3 ||
      blocks.shape != std::vector{rows_, scales_.stride}) {
    refuse(*scales_.tensor, fmt::format("F8_E4M3 [{}, {}] is expected, it is {}", rows_, cols_ / kNvfp4Block,
                                        blocks.description()));
  }
  scales_.factor = divided ? 1.0f / number(*second_scale_) : number(*second_scale_);
  if (!std::isfinite(scales_.factor)) refuse(*second_scale_, "it is no scale");
}

std::vector<std::string> StoredMatrix::companions() const {
  std::vector<std::string> names;
  for (const MappedTensor* tensor : {scales_.tensor, second_scale_})
    if (tensor != nullptr) names.push_back(tensor->stored.name);
  return names;
}

std::int64_t StoredMatrix::end_of_block(std::int64_t row, std::int64_t end) const {
  return std::min(end, (row / scales_.block_rows + 1) * scales_.block_rows);
}

std::vector<StoredMatrix::Run> StoredMatrix::runs(std::int64_t row, Range columns) const {
  std::vector<Run> runs;
  for (std::int64_t c = columns.begin; c < columns.end; c = runs.back().columns.end) {
    const std::int64_t block = c / scales_.block_columns;
    float scale = 0.0f;
    read_values(*scales_.tensor, row / scales_.block_rows * scales_.stride + block, 1, &scale);
    scale *= scales_.factor;
    if (!std::isfinite(scale)) {
      refuse(*scales_.tensor,
             fmt::format("the scale of '{}' at row {}, column {} is no number", name(), row, c));
    }
    runs.push_back({{c, std::min(columns.end, (block + 1) * scales_.block_columns)}, scale});
  }
  return runs;
}

void StoredMatrix::widen(std::int64_t row, Range columns, float* out) const {
  if (values_->stored.type == StoredType::u8)
    return widen_e2m1(values_->data + row * (cols_ / 2), columns, out);
  read_values(*values_, row * cols_ + columns.begin, columns.size(), out);
}

void StoredMatrix::read(Range rows, Range columns, float* out) const {
  for (std::int64_t row = rows.begin; row < rows.end;) {
    const std::vector<Run> scaled = scales_.tensor != nullptr ? runs(row, columns) : std::vector<Run>();
    for (const std::int64_t end = end_of_block(row, rows.end); row < end; ++row, out += columns.size()) {
      widen(row, columns, out);
      for (const Run& run : scaled)
        multiply(out + run.columns.begin - columns.begin, run.columns.size(), run.scale);
    }
  }
}

template <class T>
void StoredMatrix::read_through_floats(Range rows, Range columns, float factor, T* out) const {
  std::vector<float> wide(static_cast<std::size_t>(columns.size()));
  for (std::int64_t row = rows.begin; row < rows.end; ++row, out += columns.size()) {
    read({row, row + 1}, columns, wide.data());
    round_values(wide.data(), columns.size(), factor, out);
  }
}

template <class T>
void StoredMatrix::rescale(Range rows, Range columns, float factor, T* out) const {
  for (std::int64_t row = rows.begin; row < rows.end;) {
    const std::vector<Run> scaled = runs(row, columns);
    std::vector<RescaledE4m3<T>> rescaled;
    for (const Run& run : scaled) rescaled.emplace_back(run.scale, factor);
    for (const std::int64_t end = end_of_block(row, rows.end); row < end; ++row) {
      for (std::size_t i = 0; i < scaled.size(); ++i) {
        const Range some = scaled[i].columns;
        rescaled[i].translate(at(row, some.begin, 1), some.size(), out);
        out += some.size();
      }
    }
  }
}

void StoredMatrix::read_rounded(Range rows, Range columns, float factor, BF16* out) const {
  if (values_->stored.type == StoredType::f8_e4m3) return rescale(rows, columns, factor, out);
  if (values_->stored.type != StoredType::bf16 || factor != 1.0f)
    return read_through_floats(rows, columns, factor, out);
  const std::size_t bytes = static_cast<std::size_t>(columns.size()) * sizeof(BF16);
  for (std::int64_t row = rows.begin; row < rows.end; ++row, out += columns.size())
    std::memcpy(out, at(row, columns.begin, sizeof(BF16)), bytes);
}

void StoredMatrix::read_rounded(Range rows, Range columns, float factor, FP8* out) const {
  if (values_->stored.type == StoredType::f8_e4m3) return rescale(rows, columns, factor, out);
  if (values_->stored.type != StoredType::bf16 || !narrows_bf16(factor))
    return read_through_floats(rows, columns, factor, out);
  for (std::int64_t row = rows.begin; row < rows.end; ++row, out += columns.size())
    narrow_bf16(at(row, columns.begin, sizeof(BF16)), columns.size(), factor, out);
}

// Makers of checkpoints scale each block's largest value to 448: few blocks after the first can have a larger one.
float StoredMatrix::largest_of_e4m3(Range rows, Range columns, float known) const {
  constexpr float most = 448.0f;
  float largest = known;
  for (std::int64_t row = rows.begin; row < rows.end;) {
    const std::int64_t end = end_of_block(row, rows.end);
    for (const Run& run : runs(row, columns)) {
      if (std::fabs(run.scale) * most <= largest) continue;
      std::vector<std::uint8_t> magnitudes(static_cast<std::size_t>(run.columns.size()));
      for (std::int64_t r = row; r < end; ++r)
        raise_to_e4m3(at(r, run.columns.begin, 1), run.columns.size(), magnitudes.data());
      std::uint8_t bits = 0;
      for (const std::uint8_t magnitude : magnitudes) bits = std::max(bits, magnitude);
      largest = std::max(largest, std::fabs(run.scale * to_float(FP8{bits})));
    }
    row = end;
  }
  return largest;
}

const std::byte* StoredMatrix::rows_in_bf16(std::int64_t row, Range columns) const {
  const bool as_asked = values_->stored.type == StoredType::bf16 && columns.size() == cols_;
  return as_asked ? at(row, 0, sizeof(BF16)) : nullptr;
}

float StoredMatrix::largest(Range rows, Range columns, float known) const {
  if (values_->stored.type == StoredType::f8_e4m3) return largest_of_e4m3(rows, columns, known);
  float largest = known;
  std::vector<float> wide(static_cast<std::size_t>(columns.size()));
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    if (values_->stored.type == StoredType::bf16) {
      largest = std::max(largest, largest_bf16(at(row, columns.begin, sizeof(BF16)), columns.size()));
    } else {
      read({row, row + 1}, columns, wide.data());
      largest = std::max(largest, largest_magnitude(wide.data(), columns.size()));
    }
  }
  return largest;
}

}  // namespace helix
