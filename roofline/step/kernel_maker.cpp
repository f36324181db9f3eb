#include "roofline/step/kernel_maker.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {

std::string_view name(KernelMaker maker) {
  switch (maker) {
    case KernelMaker::own:
      return "own";
    case KernelMaker::trtllm_gen:
      return "trtllm-gen";
  }
  return "?";
}

KernelMaker parse_kernel_maker(std::string_view text) {
  std::vector<std::string_view> names;
  for (const KernelMaker maker : kernel_makers) {
    if (name(maker) == text) return maker;
    names.push_back(name(maker));
  }
  throw UsageError(
      fmt::format("no kernels are called '{}'; valid: {}", excerpt(text), fmt::join(names, ", ")));
}

}  // namespace helix
