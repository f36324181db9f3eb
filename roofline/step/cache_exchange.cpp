#include <fmt/format.h>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

std::string to_string(const CacheExchange& exchange) {
  return fmt::format("{}+{}{}", exchange.merge == CacheExchange::Merge::ag_rs ? "ag_rs" : "a2a",
                     exchange.queries == CacheExchange::Queries::gathered ? "gathered" : "replicated",
                     exchange.projection == CacheExchange::Projection::before_merge ? "+projected" : "");
}

CacheExchange parse_cache_exchange(std::string_view text) {
  for (const auto queries : {CacheExchange::Queries::replicated, CacheExchange::Queries::gathered}) {
    for (const auto merge : {CacheExchange::Merge::a2a, CacheExchange::Merge::ag_rs}) {
      for (const auto projection :
           {CacheExchange::Projection::after_merge, CacheExchange::Projection::before_merge}) {
        const CacheExchange exchange{.queries = queries, .merge = merge, .projection = projection};
        if (to_string(exchange) == text) return exchange;
      }
    }
  }
  throw UsageError(fmt::format(
      "'{}' is no exchange; valid: a2a or ag_rs, + replicated or gathered, and + projected", excerpt(text)));
}

}  // namespace helix
