// How configurations are written for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sweeps/results/result_row.hpp"

namespace helix {

/// 65536 is 64K, 1048576 is 1M; what is no multiple of 1024 stays as it is.
std::string token_text(std::int64_t count);
/// "KVP 2 TPA 1 > TPF 2 EP 1", PP and DP where they are not 1.
std::string sharding_text(const Sharding& sharding);
/// The same with HOP-B where it is on.
std::string sharding_text(const Configuration& config);
/// "D8K8>E64P2", widths of 1 left out, "H4" behind it for HOP-B; sharding_legend says what the letters are.
std::string short_sharding_text(const Configuration& config);
inline constexpr std::string_view sharding_legend =
    "Sharding: D DP x K KVP x T TPA of attention > F TPF x E EP of the FFN, P PP stages, H HOP-B "
    "pieces; "
    "what is 1 is left out.";
/// "bf16/fp8": weights and KV cache.
std::string precision_text(DType weights, DType kv);

/// Adds to what is said of a row; nothing if there is nothing to add.
void add_caveat(std::string& reason, const std::string& caveat);
/// That a model was not made for a context, or nothing.
std::string long_context(const ModelSpec& model, std::int64_t context);

}  // namespace helix
