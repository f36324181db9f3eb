// Which tokens of a step with drafts count, and how requests go on behind them, where nobody drafts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "roofline/step/sharding.hpp"

namespace helix {

/// Tokens of step `step` that count, `acceptance` in the mean. 0: every number from 1 to query_tokens in turn.
std::int64_t accepted_tokens(double acceptance, std::int64_t query_tokens, std::int64_t step);
/// Of each request; where it isn't given, they do not agree in what they accept.
std::vector<std::int64_t> accepted_of_batch(double acceptance, const DecodeShape& shape, std::int64_t step);

/// A request goes on with what it chose behind its last accepted token; its other choices pass for drafts. Rows as
/// those of a step.
std::vector<std::int32_t> next_input(std::span<const std::int32_t> chosen,
                                     std::span<const std::int64_t> accepted, std::int64_t query_tokens);

}  // namespace helix
