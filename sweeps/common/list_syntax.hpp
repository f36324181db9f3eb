// The LIST syntax of flags and sweep files: `1,2,4`, a range `1:64` of powers of two or `4:64:4` in steps,
// `auto` and `max`; token counts take k, m.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace helix {

/// What a request says about one quantity.
struct Choice {
  enum class Kind {
    unset,   // nothing: the strategy or the command chooses
    every,   // `auto`: every legal value
    listed,  // these values
    most,    // `max`: the largest that fits the memory, of each configuration its own
  };
  Kind kind = Kind::unset;
  std::vector<std::int64_t> values;

  bool listed() const { return kind == Kind::listed; }
  bool operator==(const Choice&) const = default;
};

/// What a quantity may be; `largest` keeps products of quantities inside 64 bits.
struct Quantity {
  std::int64_t smallest = 1;
  std::int64_t largest = 0;
  bool token_count = false;  // takes the suffixes k = 1024 and m = 1024 * 1024
  bool may_be_max = false;   // takes `max`
};
inline constexpr Quantity context_tokens{1, std::int64_t{1} << 40, true, true};
inline constexpr Quantity batch_requests{1, std::int64_t{1} << 24, false, true};
inline constexpr Quantity rank_count{1, std::int64_t{1} << 20};
inline constexpr Quantity block_tokens{1, std::int64_t{1} << 20};
inline constexpr Quantity drafted_tokens{0, 63};
inline constexpr Quantity expert_copies{0, (1 << 14) - 1};
inline constexpr Quantity layer_count{1, std::int64_t{1} << 20};

/// The parsers throw UsageError; `where` names the flag or the key of a file in its message.
Choice parse_choice(std::string_view text, const Quantity& quantity, const std::string& where);
std::int64_t parse_count(std::string_view text, const Quantity& quantity, const std::string& where);
/// A finite number in [smallest, largest].
double parse_real(std::string_view text, double smallest, double largest, const std::string& where);
/// Cuts `text` at commas and trims blanks; an empty entry is refused.
std::vector<std::string> split_list(std::string_view text, const std::string& where);
/// The same for names and paths, without repetitions: where a file or directory of that name exists, its
/// commas are part of it.
std::vector<std::string> split_paths(std::string_view text, const std::string& where);

}  // namespace helix
