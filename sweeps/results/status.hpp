// What became of a row.
#pragma once

#include <string_view>

namespace helix {

/// wrong: it ran, and verification holds against what it computed; failed: it did not run to its end.
enum class Status { ok, skipped, failed, wrong };

std::string_view name(Status status);
/// Throws UsageError naming the unknown word.
Status parse_status(std::string_view text);
/// Whether a row of this status fails a check.
constexpr bool is_failure(Status status) {
  return status == Status::failed || status == Status::wrong;
}

}  // namespace helix
