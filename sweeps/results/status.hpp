// What became of a row.
#pragma once

#include <string_view>

namespace helix {

/// wrong: it ran, and verification holds against what it computed; failed: it did not run to its end; one_rank: one
/// rank of it ran, see RankShare.
enum class Status { ok, skipped, failed, wrong, one_rank };

std::string_view name(Status status);
/// Throws UsageError naming the unknown word.
Status parse_status(std::string_view text);
/// Whether a row of this status has samples, or else a prediction to go by.
constexpr bool is_timed(Status status) {
  return status == Status::ok || status == Status::one_rank;
}
/// Whether a row of this status fails a check.
constexpr bool is_failure(Status status) {
  return status == Status::failed || status == Status::wrong;
}

}  // namespace helix
