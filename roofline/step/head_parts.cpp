#include "roofline/step/head_parts.hpp"

namespace helix {

std::int64_t headed_batch(const Sharding& sharding, const DecodeShape& shape) {
  return shape.whole_head ? attended_batch(sharding, shape) : stage_batch(sharding, shape);
}

int head_ranks(const Sharding& sharding, const DecodeShape& shape) {
  return shape.whole_head ? 1 : sharding.stage_ranks();
}

void embed(OpList& ops, const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  const double values = real(headed_batch(sharding, shape) * shape.query_tokens() * model.hidden);
  ops.elementwise("embedding", Phase::head, values * 2 * bf16_bytes);
  ops.collective("embedding all-reduce", Phase::head,
                 {.op = Collective::all_reduce,
                  .group = head_ranks(sharding, shape),
                  .payload_bytes = values * bf16_bytes});
}

std::int64_t own_rows(const Sharding& sharding, const DecodeShape& shape) {
  return (attends_whole_requests(sharding) ? attended_batch(sharding, shape)
                                           : headed_batch(sharding, shape)) *
         shape.query_tokens();
}

void choose(OpList& ops, const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  const std::int64_t b = headed_batch(sharding, shape) * shape.query_tokens();
  const std::int64_t h = model.hidden;
  const int n = head_ranks(sharding, shape);
  const std::int64_t vocab = ceil_div(model.vocab, n);
  constexpr double top_logit_bytes = 8;
  if (attends_whole_requests(sharding) && !shape.whole_head) {
    ops.collective("final all-gather", Phase::head,
                   {.op = Collective::all_gather, .group = n, .payload_bytes = real(b * h) * bf16_bytes});
  }
  ops.gemm("LM head", Phase::head, {.m = b, .n = vocab, .k = h}, weight_format(shape, WeightPart::lm_head),
           fp32_bytes);
  ops.elementwise("argmax", Phase::head, real(b * vocab) * fp32_bytes);
  ops.collective("argmax all-gather", Phase::head,
                 {.op = Collective::all_gather, .group = n, .payload_bytes = real(b) * top_logit_bytes * n});
}

}  // namespace helix
