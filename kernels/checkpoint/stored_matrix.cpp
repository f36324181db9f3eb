#include "kernels/checkpoint/stored_matrix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"
#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/simd_clones.hpp"
#include "roofline/base/error.hpp"

namespace helix {
namespace {

[[noreturn]] void refuse(const MappedTensor& tensor, const std::string& what) {
  throw UsageError(fmt::format("{}: tensor '{}': {}", tensor.file, tensor.stored.name, what));
}

// Tensors need not lie at multiples of their values' size.
template <class T>
T at(const std::byte* data, std::int64_t i) {
  T value;
  std::memcpy(&value, data + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

HELIX_SIMD_CLONES void widen_bf16(const std::byte* data, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i)
    out[i] = std::bit_cast<float>(std::uint32_t{at<std::uint16_t>(data, i)} << 16);
}

/// Exponents of 5 bits with a bias of 15: shifted into place they are 2^112 too small, subnormals as well.
HELIX_SIMD_CLONES void widen_f16(const std::byte* data, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t half = at<std::uint16_t>(data, i);
    const std::uint32_t sign = (half & 0x8000u) << 16;
    const float magnitude = std::bit_cast<float>((half & 0x7fffu) << 13) * 0x1p112f;
    const std::uint32_t not_finite = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    out[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign | not_finite);
  }
}

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (std::size_t bits = 0; bits < table.size(); ++bits)
      table[bits] = to_float(FP8{static_cast<std::uint8_t>(bits)});
    return table;
  }();
  return values;
}

void widen_e4m3(const std::byte* data, std::int64_t count, float* out) {
  const std::array<float, 256>& values = e4m3_values();
  for (std::int64_t i = 0; i < count; ++i) out[i] = values[static_cast<std::size_t>(data[i])];
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
  scales_ = {
      .tensor = files.find(name() + "_scale"), .block_columns = kNvfp4Block, .stride = cols_ / kNvfp4Block};
  second_scale_ = files.find(name() + "_scale_2");
  if (scales_.tensor == nullptr || second_scale_ == nullptr)
    refuse(*values_, fmt::format("U8, which is NVFP4, without '{0}_scale' and '{0}_scale_2'", name()));
  const StoredTensor& blocks = scales_.tensor->stored;
  if (cols_ % kNvfp4Block != 0 || blocks.type != StoredType::f8_e4m3 ||
      blocks.shape != std::vector{rows_, scales_.stride}) {
    refuse(*scales_.tensor, fmt::format("F8_E4M3 [{}, {}] is expected, it is {}", rows_, cols_ / kNvfp4Block,
                                        blocks.description()));
  }
  scales_.factor = number(*second_scale_);
}

std::vector<std::string> StoredMatrix::companions() const {
  std::vector<std::string> names;
  for (const MappedTensor* tensor : {scales_.tensor, second_scale_})
    if (tensor != nullptr) names.push_back(tensor->stored.name);
  return names;
}

void StoredMatrix::read(std::int64_t row, Range columns, float* out) const {
  if (values_->stored.type == StoredType::u8) {
    widen_e2m1(values_->data + row * (cols_ / 2), columns, out);
  } else {
    read_values(*values_, row * cols_ + columns.begin, columns.size(), out);
  }
  if (scales_.tensor == nullptr) return;
  const std::int64_t first_scale = row / scales_.block_rows * scales_.stride;
  for (std::int64_t c = columns.begin; c < columns.end;) {
    const std::int64_t block = c / scales_.block_columns;
    const std::int64_t end = std::min(columns.end, (block + 1) * scales_.block_columns);
    float scale = 0.0f;
    read_values(*scales_.tensor, first_scale + block, 1, &scale);
    scale *= scales_.factor;
    for (; c < end; ++c) out[c - columns.begin] *= scale;
  }
}

}  // namespace helix
