#include "roofline/cost/trust.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

constexpr std::array kinds = {
    std::pair{std::string_view("system"), &Extrapolated::system},
    std::pair{std::string_view("context"), &Extrapolated::context},
    std::pair{std::string_view("shape"), &Extrapolated::shape},
    std::pair{std::string_view("group"), &Extrapolated::group},
    std::pair{std::string_view("engine"), &Extrapolated::engine},
};

}  // namespace

std::string to_string(const Extrapolated& extrapolated) {
  std::string text;
  for (const auto& [kind, member] : kinds) {
    if (extrapolated.*member) text += fmt::format("{}{}", text.empty() ? "" : "+", kind);
  }
  return text;
}

Extrapolated parse_extrapolated(const std::string& text) {
  Extrapolated all;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view kind = rest.substr(0, rest.find('+'));
    bool known = false;
    for (const auto& [candidate, member] : kinds) {
      if (candidate == kind) known = all.*member = true;
    }
    if (!known) {
      throw UsageError(
          fmt::format("extrapolated '{}'; valid: system, context, shape, group, engine joined by +", text));
    }
    rest.remove_prefix(std::min(rest.size(), kind.size() + 1));
  }
  return all;
}

}  // namespace helix
