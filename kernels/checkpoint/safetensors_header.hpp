// The header of a safetensors file: eight bytes with its length, then JSON that names each tensor with its type, shape
// and place among the bytes behind it. https://github.com/huggingface/safetensors, "Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace helix {

/// A type of stored values. Of those that no weight is read from only the size is known.
enum class StoredType : std::uint8_t { f64, f32, f16, bf16, f8_e4m3, u8, i32, i64, other };

struct StoredTensor {
  std::string name, type_name;
  StoredType type = StoredType::other;
  std::vector<std::int64_t> shape;    // empty: a number
  std::size_t offset = 0, bytes = 0;  // of the file

  std::int64_t values() const;
  /// "BF16 [32, 48]"
  std::string description() const;
};

/// What `head`, the first bytes of a file of `file_bytes` bytes, says of its tensors. Throws UsageError in one line that
/// names `origin` and the tensor: no such file, a header that is malformed or ends behind `head`, a tensor whose bytes
/// do not lie in the file, are not as many as its type and shape take, or are another's; bytes that are no tensor's.
std::vector<StoredTensor> parse_safetensors_header(std::string_view head, std::uint64_t file_bytes,
                                                   const std::string& origin);

}  // namespace helix
