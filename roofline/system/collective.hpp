// The exchanges between ranks that a decode step makes.
#pragma once

#include <string_view>

namespace helix {

/// Payload S of a collective in the nccl-tests convention: all_reduce the reduced buffer, all_gather and
/// reduce_scatter the large buffer (ranks x part), all_to_all the whole send buffer, send the message.
enum class Collective { all_reduce, all_gather, reduce_scatter, all_to_all, send };
std::string_view name(Collective op);

}  // namespace helix
