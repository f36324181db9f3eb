// Catch2 3 (Debian 13) under the header and the names of Catch2 2 (Debian 12), which the tests use.
#pragma once

#include <catch2/catch_approx.hpp>
#include <catch2/catch_session.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_floating_point.hpp>
#include <catch2/matchers/catch_matchers_predicate.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <catch2/matchers/catch_matchers_vector.hpp>

namespace Catch {
namespace Matchers {
/// A part of a text; of a vector it is Catch2's own.
inline auto Contains(const std::string& part, CaseSensitive sensitive = CaseSensitive::Yes) {
  return ContainsSubstring(part, sensitive);
}
}  // namespace Matchers
using namespace Matchers;
}  // namespace Catch

using Catch::Approx;
