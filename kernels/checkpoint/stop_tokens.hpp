#pragma once

#include <cstdint>
#include <filesystem>
#include <set>

namespace helix {

/// The tokens that end an answer: eos_token_id, a number or a list of them, of the directory's generation_config.json
/// or else its config.json. Empty: neither says. Throws UsageError for files that cannot be read.
std::set<std::int32_t> stop_tokens(const std::filesystem::path& directory);

}  // namespace helix
