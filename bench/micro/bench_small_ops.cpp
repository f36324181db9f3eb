// The element-wise and per-row ops of a decode step, with activations from cold memory. In a step they are
// warm in a cache, so these are upper bounds of their times. FLOPs are the additions and multiplications, an
// exponential or a comparison counting as one. Arguments: tokens, threads, at the shapes of Llama-3.2-1B
// unless the name says otherwise.
#include <cmath>
#include <mutex>
#include <numeric>

#include "bench/micro/cold_samples.hpp"
#include "kernels/cpu/attention/attention.hpp"
#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/memory.hpp"

namespace helix {
namespace {

constexpr std::int64_t kHidden = 2048, kFfn = 8192, kVocabulary = 128256;
constexpr std::int64_t kQHeads = 32, kKvHeads = 8, kHeadDim = 64;

struct Args {
  std::int64_t tokens;
  int threads;
  explicit Args(const benchmark::State& state)
      : tokens(state.range(0)), threads(static_cast<int>(state.range(1))) {}
};

/// The halves of cold memory. Inputs hold ordinary numbers, and keep doing so, since products go to the other
/// half; only norms and rotations, which keep a vector ordinary, may work in place.
std::span<std::byte> inputs() {
  static std::once_flag written;
  std::call_once(written, write_ordinary_numbers);
  return cold_buffer().first(cold_buffer().size() / 2);
}
std::span<std::byte> outputs() {
  return cold_buffer().last(cold_buffer().size() / 2);
}

/// Bytes of an op's operands.
struct Traffic {
  std::int64_t in = 0, out = 0;
  std::int64_t updated = 0;  // those of the others that are both read and written
};

/// Times op(in, out), which carves its operands from the next stretches of cold memory.
template <class Op>
void sample_cold(benchmark::State& state, Traffic bytes, std::int64_t flops, int threads, const Op& op) {
  constexpr std::int64_t padding = 4 * 64;  // of at most 4 arrays
  ColdStretches in_stretches(static_cast<std::size_t>(bytes.in + padding), inputs());
  ColdStretches out_stretches(static_cast<std::size_t>(bytes.out + padding), outputs());
  const double moved = static_cast<double>(bytes.in + bytes.out + bytes.updated);
  sample_against_roofline(state, moved, static_cast<double>(flops), threads, [&] {
    Carver in(in_stretches.next()), out(out_stretches.next());
    op(in, out);
  });
}

/// The rows read are cold, those written are not counted.
void embed(benchmark::State& state) {
  const Args args(state);
  const auto rows = static_cast<std::int32_t>(inputs().size() / (kHidden * sizeof(BF16)));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(args.tokens));
  std::vector<BF16> out(static_cast<std::size_t>(args.tokens * kHidden));
  const auto* const table = reinterpret_cast<const BF16*>(inputs().data());
  std::int32_t next = 0;
  sample_against_roofline(state, static_cast<double>(args.tokens * kHidden * 2), 0.0, args.threads, [&] {
    for (std::int32_t& token : tokens) token = (next += 7919) % rows;
    cpu::embed(args.tokens, kHidden, tokens.data(), table, 0, rows, out.data());
  });
}

void add_rms_norm(benchmark::State& state) {
  const Args args(state);
  const std::int64_t values = args.tokens * kHidden;
  const Traffic bytes{values * 2 + kHidden * 2, values * (4 + 2), values * 4};
  sample_cold(state, bytes, 5 * values, args.threads, [&](Carver& in, Carver& out) {
    const auto* const delta = in.take<BF16>(values);
    auto* const residual = out.take<float>(values);
    const auto* const gain = in.take<BF16>(kHidden);
    cpu::add_rms_norm(args.tokens, kHidden, delta, false, residual, gain, 1e-5f, out.take<BF16>(values),
                      args.threads);
  });
}

void rms_norm_heads(benchmark::State& state) {
  const Args args(state);
  const std::int64_t row = kQHeads * kHeadDim, values = args.tokens * row;
  const Traffic bytes{values * 2 + kHeadDim * 2, 0, values * 2};
  sample_cold(state, bytes, 4 * values, args.threads, [&](Carver& in, Carver&) {
    auto* const x = in.take<BF16>(values);
    const auto* const gain = in.take<BF16>(kHeadDim);
    cpu::rms_norm_heads(args.tokens, kQHeads, kHeadDim, gain, 1e-5f, {x, row, kHeadDim}, args.threads);
  });
}

/// Of one layer: q and k rotated in their place, k and v appended, each token to a page of its own.
void rope_and_append(benchmark::State& state) {
  const Args args(state);
  const auto batch = static_cast<std::size_t>(args.tokens);
  const KvShape kv{AttentionKind::gqa, kKvHeads, kHeadDim, kHeadDim, 32, DType::bf16};
  const std::size_t page_bytes = cpu::kv_page_bytes(kv);
  std::vector<std::int32_t> pages(batch);
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<std::int64_t> slots(batch, 0), positions(batch, 65536);
  const std::vector<std::int64_t> lengths(batch, 1);
  std::vector<float> inv_freq(kHeadDim / 2);
  for (std::size_t i = 0; i < inv_freq.size(); ++i)
    inv_freq[i] = std::pow(5e5f, -static_cast<float>(2 * i) / static_cast<float>(kHeadDim));
  const RopeTable table{.inv_freq = inv_freq.data(), .rope_dim = kHeadDim};

  constexpr std::int64_t row = (kQHeads + 2 * kKvHeads) * kHeadDim;
  constexpr std::int64_t rotated = (kQHeads + kKvHeads) * kHeadDim, appended = 2 * kKvHeads * kHeadDim;
  const std::int64_t bytes = args.tokens * (2 * rotated + 2 * appended) * 2;
  ColdStretches rows(batch * row * sizeof(BF16), inputs()), page_groups(batch * page_bytes, outputs());
  sample_against_roofline(
      state, static_cast<double>(bytes), static_cast<double>(args.tokens * 3 * rotated), args.threads, [&] {
        auto* const qkv = reinterpret_cast<BF16*>(rows.next());
        BF16* const k = qkv + kQHeads * kHeadDim;
        const HeadRows<BF16> heads{qkv, row, kHeadDim};
        cpu::rope(table, args.tokens, kQHeads + kKvHeads, positions.data(), heads, heads, args.threads);
        const KvView cache{kv, page_groups.next(), page_bytes, pages.data(), 1, lengths.data()};
        cpu::kv_append(cache, args.tokens, slots.data(), k, row, k + kKvHeads * kHeadDim, row, args.threads);
        for (std::int64_t& slot : slots) slot = (slot + 1) % kv.tokens_per_page;
        for (std::int64_t& position : positions) ++position;
      });
}

/// Two KVP ranks with half of the heads each; v_dim from the arguments (512: MLA).
PartialShape partials(const benchmark::State& state) {
  return {.parts = 2, .batch = state.range(0), .heads = kQHeads / 2, .v_dim = state.range(2)};
}

void pack_partials(benchmark::State& state) {
  const Args args(state);
  const PartialShape shape = partials(state);
  const std::int64_t lses = shape.parts * shape.batch * shape.heads;
  const std::int64_t packed_bytes = shape.parts * static_cast<std::int64_t>(shape.chunk_bytes());
  const Traffic bytes{lses * (shape.v_dim * 2 + 4), packed_bytes};
  sample_cold(state, bytes, 0, args.threads, [&](Carver& in, Carver& out) {
    const auto* const o = in.take<BF16>(lses * shape.v_dim);
    const auto* const lse = in.take<float>(lses);
    cpu::pack_partials(shape, o, lse, out.take<std::byte>(packed_bytes), args.threads);
  });
}

void merge_partials(benchmark::State& state) {
  const Args args(state);
  const PartialShape shape = partials(state);
  const std::int64_t packed_bytes = shape.parts * static_cast<std::int64_t>(shape.chunk_bytes());
  const std::int64_t values = shape.batch * shape.heads * shape.v_dim;
  const Traffic bytes{packed_bytes, values * 2};
  sample_cold(state, bytes, 2 * shape.parts * values, args.threads, [&](Carver& in, Carver& out) {
    const auto* const packed = in.take<std::byte>(packed_bytes);
    cpu::merge_partials(shape, packed, out.take<BF16>(values), args.threads);
  });
}

void route(benchmark::State& state, const RouterShape& shape) {
  const Args args(state);
  const std::int64_t logits = args.tokens * shape.experts, chosen = args.tokens * shape.top_k;
  const Traffic bytes{(logits + shape.experts) * 4, chosen * (4 + 4)};
  sample_cold(state, bytes, 3 * logits, args.threads, [&](Carver& in, Carver& out) {
    const auto* const from = in.take<float>(logits);
    const auto* const bias = in.take<float>(shape.experts);
    auto* const ids = out.take<std::int32_t>(chosen);
    cpu::route(shape, args.tokens, from, shape.kind == RouterKind::sigmoid_grouped ? bias : nullptr, ids,
               out.take<float>(chosen), args.threads);
  });
}

void swiglu(benchmark::State& state) {
  const Args args(state);
  const std::int64_t values = args.tokens * kFfn;
  const Traffic bytes{2 * values * 2, values * 2};
  sample_cold(state, bytes, 5 * values, args.threads, [&](Carver& in, Carver& out) {
    const auto* const gate_up = in.take<BF16>(2 * values);
    cpu::gated({}, args.tokens, kFfn, gate_up, out.take<BF16>(values), args.threads);
  });
}

void argmax(benchmark::State& state) {
  const Args args(state);
  const std::int64_t values = args.tokens * kVocabulary;
  std::vector<TopLogit> top(static_cast<std::size_t>(args.tokens));
  sample_cold(state, {values * 4}, values, args.threads, [&](Carver& in, Carver&) {
    cpu::argmax(args.tokens, kVocabulary, in.take<float>(values), 0, top.data(), args.threads);
  });
}

void tokens_and_threads(benchmark::internal::Benchmark* b) {
  b->ArgsProduct({{1, 8, 64}, {1, 2}})->ArgNames({"tokens", "threads"})->UseManualTime()->MinTime(0.1);
}
void also_v_dim(benchmark::internal::Benchmark* b) {
  b->ArgsProduct({{1, 8, 64}, {1, 2}, {kHeadDim, 512}})
      ->ArgNames({"tokens", "threads", "v_dim"})
      ->UseManualTime()
      ->MinTime(0.1);
}

BENCHMARK(embed)->Apply(tokens_and_threads);
BENCHMARK(add_rms_norm)->Apply(tokens_and_threads);
BENCHMARK(rms_norm_heads)->Apply(tokens_and_threads);
BENCHMARK(rope_and_append)->Apply(tokens_and_threads);
BENCHMARK(pack_partials)->Apply(also_v_dim);
BENCHMARK(merge_partials)->Apply(also_v_dim);
BENCHMARK_CAPTURE(route, deepseek_v2_lite, RouterShape{RouterKind::softmax_topk, 64, 6, 1, 1, false, 1.0f})
    ->Apply(tokens_and_threads);
BENCHMARK_CAPTURE(route, deepseek_r1, RouterShape{RouterKind::sigmoid_grouped, 256, 8, 8, 4, true, 2.5f})
    ->Apply(tokens_and_threads);
BENCHMARK(swiglu)->Apply(tokens_and_threads);
BENCHMARK(argmax)->Apply(tokens_and_threads);

}  // namespace
}  // namespace helix
