#include "kernels/checkpoint/safetensors_header.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/checkpoint/unique_names.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {
namespace {

struct TypeRow {
  std::string_view name;
  StoredType type;
  std::uint64_t bits;
};
constexpr auto types = std::to_array<TypeRow>({{"F64", StoredType::f64, 64},
                                               {"F32", StoredType::f32, 32},
                                               {"F16", StoredType::f16, 16},
                                               {"BF16", StoredType::bf16, 16},
                                               {"F8_E4M3", StoredType::f8_e4m3, 8},
                                               {"U8", StoredType::u8, 8},
                                               {"I32", StoredType::i32, 32},
                                               {"I64", StoredType::i64, 64},
                                               {"BOOL", StoredType::other, 8},
                                               {"I8", StoredType::other, 8},
                                               {"I16", StoredType::other, 16},
                                               {"U16", StoredType::other, 16},
                                               {"U32", StoredType::other, 32},
                                               {"U64", StoredType::other, 64},
                                               {"F8_E5M2", StoredType::other, 8},
                                               {"F8_E8M0", StoredType::other, 8},
                                               {"F4", StoredType::other, 4}});

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t longest_header = 100'000'000;  // of the format's own library
constexpr std::size_t most_dimensions = 8;

[[noreturn]] void refuse(const std::string& origin, const std::string& name, const std::string& what) {
  throw UsageError(fmt::format("{}: tensor '{}': {}", origin, excerpt(name), what));
}

/// A whole number from 0; shapes and offsets are nothing else.
std::uint64_t whole(const nlohmann::json& value, const std::string& origin, const std::string& name,
                    std::string_view what) {
  if (!value.is_number_unsigned()) refuse(origin, name, fmt::format("{} holds no whole number from 0", what));
  return value.get<std::uint64_t>();
}

/// Null where the entry has no such field.
const nlohmann::json& field(const nlohmann::json& entry, const char* key) {
  static const nlohmann::json none;
  return entry.contains(key) ? entry.at(key) : none;
}

StoredTensor read_entry(const std::string& name, const nlohmann::json& entry, std::uint64_t data_bytes,
                        const std::string& origin) {
  if (!entry.is_object()) refuse(origin, name, "its entry is no JSON object");
  const nlohmann::json &dtype = field(entry, "dtype"), &shape = field(entry, "shape"),
                       &offsets = field(entry, "data_offsets");
  if (!dtype.is_string()) refuse(origin, name, "no dtype");
  if (!shape.is_array() || shape.size() > most_dimensions)
    refuse(origin, name, fmt::format("no shape of at most {} dimensions", most_dimensions));
  if (!offsets.is_array() || offsets.size() != 2) refuse(origin, name, "no data_offsets of two numbers");

  StoredTensor tensor;
  tensor.name = name;
  tensor.type_name = dtype.get<std::string>();
  const auto* row = std::ranges::find(types, std::string_view(tensor.type_name), &TypeRow::name);
  if (row == types.end()) {
    refuse(origin, name, fmt::format("its dtype '{}' is not of safetensors", excerpt(tensor.type_name)));
  }
  tensor.type = row->type;
  std::uint64_t bits = row->bits;
  for (const auto& dimension : shape) {
    const std::uint64_t length = whole(dimension, origin, name, "shape");
    if (__builtin_mul_overflow(bits, length, &bits) || length > std::uint64_t{1} << 62)
      refuse(origin, name, "its shape has more values than any file");
    tensor.shape.push_back(static_cast<std::int64_t>(length));
  }
  const std::uint64_t begin = whole(offsets[0], origin, name, "data_offsets"),
                      end = whole(offsets[1], origin, name, "data_offsets");
  if (begin > end)
    refuse(origin, name, fmt::format("its bytes end at {} before they begin at {}", end, begin));
  if (end > data_bytes) {
    refuse(origin, name,
           fmt::format("its bytes end at {}, but {} are behind the header: the file is truncated", end,
                       data_bytes));
  }
  if (bits % 8 != 0 || end - begin != bits / 8) {
    refuse(origin, name,
           fmt::format("{} takes {} bytes, its data_offsets are {} apart", tensor.description(), bits / 8,
                       end - begin));
  }
  tensor.offset = begin;
  tensor.bytes = end - begin;
  return tensor;
}

}  // namespace

std::int64_t StoredTensor::values() const {
  std::int64_t product = 1;
  for (const std::int64_t length : shape) product *= length;
  return product;
}

std::string StoredTensor::description() const {
  return fmt::format("{} [{}]", type_name, fmt::join(shape, ", "));
}

std::vector<StoredTensor> parse_safetensors_header(std::string_view head, std::uint64_t file_bytes,
                                                   const std::string& origin) {
  std::uint64_t length = 0;
  if (head.size() < length_bytes)
    throw UsageError(fmt::format("{}: too short for a safetensors file", origin));
  std::memcpy(&length, head.data(), length_bytes);  // little-endian, as every machine that this is built for
  if (length > longest_header || length > file_bytes - length_bytes || length > head.size() - length_bytes) {
    throw UsageError(
        fmt::format("{}: no safetensors file, or truncated: its header would have {} bytes, the file has {}",
                    origin, length, file_bytes));
  }
  const std::uint64_t data_begin = length_bytes + length;
  const nlohmann::json header = parse_with_unique_names(head.substr(length_bytes, length), origin);
  if (!header.is_object()) throw UsageError(fmt::format("{}: its header is no JSON object", origin));
  std::vector<StoredTensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") tensors.push_back(read_entry(name, entry, file_bytes - data_begin, origin));
  }
  std::ranges::sort(tensors, {}, [](const StoredTensor& t) { return std::pair(t.offset, t.bytes); });
  std::uint64_t taken = 0;
  for (StoredTensor& tensor : tensors) {
    if (tensor.offset < taken) refuse(origin, tensor.name, "its bytes are another tensor's, too");
    if (tensor.offset > taken)
      refuse(origin, tensor.name,
             fmt::format("the {} bytes before it are no tensor's", tensor.offset - taken));
    taken = tensor.offset + tensor.bytes;
    tensor.offset += data_begin;
  }
  if (const std::uint64_t left = file_bytes - data_begin - taken; left > 0)
    throw UsageError(fmt::format("{}: its last {} bytes are no tensor's", origin, left));
  return tensors;
}

}  // namespace helix
