#include "roofline/system/engine.hpp"

#include <fmt/format.h>

#include <array>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

constexpr std::array<std::string_view, 4> names = {"none", "trtllm", "vllm", "sglang"};

}  // namespace

std::string_view name(Engine engine) {
  return names[static_cast<std::size_t>(engine)];
}

Engine parse_engine(std::string_view text) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == text) return static_cast<Engine>(i);
  }
  throw UsageError(fmt::format("unknown engine '{}'; valid: none, trtllm, vllm, sglang", text));
}

std::int64_t graph_rows(std::int64_t rows) {
  if (rows <= 2) return rows;
  if (rows <= 4) return 4;
  const std::int64_t step = rows <= 256 ? 8 : 16;
  return (rows + step - 1) / step * step;
}

}  // namespace helix
