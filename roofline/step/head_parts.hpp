// What head_ops and draft_head_ops have in common.
#pragma once

#include <cstdint>

#include "roofline/step/op_list.hpp"

namespace helix {

/// Requests whose tokens the rank embeds and chooses.
std::int64_t headed_batch(const Sharding& sharding, const DecodeShape& shape);
/// Ranks that share embedding and head.
int head_ranks(const Sharding& sharding, const DecodeShape& shape);
/// Rows whose residual stream the rank has, as far as they are not padded.
std::int64_t own_rows(const Sharding& sharding, const DecodeShape& shape);

void embed(OpList& ops, const DecodeStep& step);
/// The LM head's choice from normed rows.
void choose(OpList& ops, const DecodeStep& step);

}  // namespace helix
