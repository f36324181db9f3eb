// Sparse attention on the CPU: which cached tokens are attended. Arguments as in kernels/ops/ops.hpp.
#pragma once

#include "kernels/ops/ops.hpp"

namespace helix::cpu {

void index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t room,
                ScoredToken* best, float* scores, std::int64_t longest, int threads);

void choose_best(std::int64_t parts, std::int64_t mine, std::int64_t batch, const ScoredToken* gathered,
                 const ChosenTokens& chosen, int threads);

void gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen, const KvView& to,
                   int threads);

}  // namespace helix::cpu
