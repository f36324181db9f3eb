// A backend that computes nothing: it notes which ops a step issues, with the bytes they move by their own
// arguments, and which messages its communicators are given. So every rank of every sharding can be run alone.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/comm/communicator.hpp"
#include "kernels/engine/step_observer.hpp"
#include "kernels/ops/backend.hpp"
#include "roofline/step/rank_plan.hpp"
#include "roofline/system/collective.hpp"

namespace helix::testing {

/// An op or a message, in the words in which the engine's and the model's are compared.
struct Noted {
  std::string what;  // with the shape, where it has one
  double bytes = 0;  // read and written; of a message: all that the collective moves
  double times = 1;
  bool shapeless = false;  // may be issued in parts, which count together
  Phase phase = Phase::head;
};

inline Noted gemm(std::int64_t m, std::int64_t n, std::int64_t k, std::int64_t matrices, double bytes) {
  return {.what = fmt::format("{} x product {} x {} x {}", matrices, m, n, k), .bytes = bytes};
}
inline Noted message(Collective op, int ranks, double payload) {
  return {.what = fmt::format("{} over {}", name(op), ranks), .bytes = payload};
}
inline Noted elementwise(std::string_view what, double bytes) {
  return {.what = std::string(what), .bytes = bytes, .shapeless = true};
}
inline Noted attention_of(const KvShape& cache, std::int64_t batch, std::int64_t q_heads, std::int64_t tokens,
                          double kv_bytes) {
  return {.what = fmt::format("attention of {} x {} heads over {} x {} x {}/{}", batch, q_heads, tokens,
                              cache.kv_heads, cache.head_dim, cache.v_dim),
          .bytes = kv_bytes};
}
inline Noted index_of(std::int64_t batch, std::int64_t heads, std::int64_t head_dim, std::int64_t keys,
                      double bytes) {
  return {.what = fmt::format("index of {} x {} heads x {} over {}", batch, heads, head_dim, keys),
          .bytes = bytes};
}
/// Bytes are those of one expert's weights: how many are read is for the router to say.
inline Noted experts_of(std::int64_t tokens, std::int64_t hidden, std::int64_t ffn, std::int64_t local,
                        std::int64_t top_k, double expert_bytes) {
  return {.what = fmt::format("{} of {} experts {} x {} for {}", top_k, local, hidden, ffn, tokens),
          .bytes = expert_bytes};
}

/// What a step does, in the order in which it begins to. Phases are those that an observer is told of, which must
/// be those that the device was told of before.
class Notes {
 public:
  void begin_phase(std::optional<Phase> phase) { begun_ = phase; }
  void exchange_begins() { ++exchanges_; }
  void exchange_ends() { --exchanges_; }
  int exchanges_under_way() const { return exchanges_; }
  void add(Noted noted) { unphased_.push_back({std::move(noted), begun_}); }
  void phase_done(Phase phase) {
    for (auto& [noted, begun] : unphased_) {
      if (begun != phase) throw std::logic_error(noted.what + " ends in another phase than it began in");
      noted.phase = phase;
      all_.push_back(std::move(noted));
    }
    unphased_.clear();
  }
  std::vector<Noted> take() {
    if (!unphased_.empty()) throw std::logic_error(unphased_.front().first.what + " belongs to no phase");
    return std::exchange(all_, {});
  }

 private:
  std::optional<Phase> begun_;
  std::vector<std::pair<Noted, std::optional<Phase>>> unphased_;
  std::vector<Noted> all_;
  int exchanges_ = 0;
};

class CountingCommunicator final : public Communicator {
 public:
  CountingCommunicator(Notes& notes, int rank, int size) : notes_(notes), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void all_to_all(const std::byte*, std::byte*, std::size_t bytes) override {
    note(Collective::all_to_all, bytes * static_cast<std::size_t>(size_));
  }
  void start_all_to_all(int slot, const std::byte* send, std::byte* recv, std::size_t bytes) override {
    if (!under_way_.emplace(slot, true).second) throw std::logic_error("a slot is used twice");
    notes_.exchange_begins();
    all_to_all(send, recv, bytes);
  }
  void finish_all_to_all(int slot) override {
    if (under_way_.erase(slot) == 0) throw std::logic_error("an exchange ends that did not begin");
    notes_.exchange_ends();
  }
  void all_gather(const std::byte*, std::byte*, std::size_t bytes) override {
    note(Collective::all_gather, bytes * static_cast<std::size_t>(size_));
  }
  void all_reduce_sum(BF16*, std::int64_t count) override {
    note(Collective::all_reduce, static_cast<std::size_t>(count) * sizeof(BF16));
  }
  void all_gather_rows(std::byte*, std::int64_t rows, std::size_t row_bytes) override {
    note(Collective::all_gather, static_cast<std::size_t>(rows) * row_bytes);
  }
  void reduce_scatter_rows(BF16*, std::int64_t rows, std::int64_t width) override {
    note(Collective::reduce_scatter, static_cast<std::size_t>(rows * width) * sizeof(BF16));
  }
  void exchange(const std::byte*, std::size_t send_bytes, int, std::byte*, std::size_t, int) override {
    if (send_bytes > 0) notes_.add(message(Collective::send, 2, static_cast<double>(send_bytes)));
  }
  std::unique_ptr<Exposure> expose(const ExchangedMemory& memory, bool in_flight) override {
    exposed_ = {memory.layout, in_flight};
    return nullptr;
  }
  struct Exposed {
    std::uint64_t layout = 0;
    bool in_flight = false;
  };
  Exposed exposed() const { return exposed_; }
  bool all_finished() const { return under_way_.empty(); }

 private:
  void note(Collective op, std::size_t payload) {
    if (size_ > 1) notes_.add(message(op, size_, static_cast<double>(payload)));
  }

  Notes& notes_;
  int rank_, size_;
  std::map<int, bool> under_way_;
  Exposed exposed_;
};

inline Groups counting_groups(Notes& notes, const Sharding& sharding, int rank) {
  const RankCoords at = rank_coords(sharding, rank);
  const int ranks = sharding.stage_ranks();
  return {std::make_unique<CountingCommunicator>(notes, rank % ranks, ranks),
          std::make_unique<CountingCommunicator>(notes, at.kvp, sharding.kvp),
          std::make_unique<CountingCommunicator>(notes, at.pp, sharding.pp)};
}

class RecordingBackend final : public Backend {
 public:
  explicit RecordingBackend(Notes& notes) : notes_(notes), cpu_(make_cpu_backend(1)) {}

  std::string name() const override { return "recording"; }
  std::string device_name() const override { return "none"; }
  int threads() const override { return 1; }
  std::size_t memory_available() const override { return cpu_->memory_available(); }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override { return cpu_->allocate(bytes); }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    std::memcpy(host, device, bytes);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    std::memcpy(device, host, bytes);
  }
  void synchronize() override {}
  void begin_phase(std::optional<Phase> phase) override { notes_.begin_phase(phase); }
  void beside_exchange(bool beside) override { beside_exchange_ = beside; }
  std::unique_ptr<Communicator> connect(const MpiGroup&) override {
    throw std::logic_error("the recording backend has counting_groups");
  }
  double read_bandwidth_bytes_per_s(std::span<const std::byte>, double) override { return 1; }
  double matrix_peak_flops_per_s(DType, double) override { return 1; }

  std::string kernel_path() const override { return "none"; }
  std::span<const DType> weight_dtypes() const override { return cpu_->weight_dtypes(); }
  std::span<const DType> kv_dtypes() const override { return cpu_->kv_dtypes(); }
  std::string why_not(const KvShape&) const override { return {}; }
  std::string kernel_for(const KvShape&) const override { return "none"; }
  std::size_t packed_bytes(std::int64_t, std::int64_t, DType) const override { return 64; }
  void fill_weight(const PackedWeight&, std::int64_t, std::span<const WeightSlice>) override {}
  void store_weight(const PackedWeight&, std::int64_t, std::int64_t, std::int64_t, const void*) override {}
  void fill_matrix(BF16*, const WeightSlice&) override {}
  std::size_t kv_page_bytes(const KvShape& shape) const override { return cpu_->kv_page_bytes(shape); }
  void kv_fill_history(const KvView&, const HistorySlice&) override {}
  std::size_t attention_scratch_bytes(const KvShape&, std::int64_t, std::int64_t) const override { return 0; }
  std::size_t moe_scratch_bytes(std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                                std::int64_t) const override {
    return 0;
  }

  // Not in the model's list: a few bytes a request, or rows that are set to 0.
  void set_bytes(void*, int, std::size_t) override {}
  void advance(std::int64_t, Append, std::int64_t*, std::int64_t*, std::int64_t*) override {}
  void advance_rows(std::int64_t, std::int64_t, const AppendTurns&, const StepState&) override {}
  void select_token(std::int64_t, std::int64_t, const TopLogit*, std::int32_t*) override {}
  /// Where rows stand is copied, for the attention's lengths.
  void copy_rows(const CopiedRows& copied) override {
    if (copied.bytes <= sizeof(std::int64_t)) return cpu_->copy_rows(copied);
    note("copy", copied.rows * static_cast<std::int64_t>(2 * copied.bytes));
  }

  void embed(std::int64_t batch, std::int64_t hidden, const std::int32_t*, const BF16*, std::int64_t,
             std::int64_t, BF16*) override {
    note("embed", batch * hidden * 4);
  }
  void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16*, bool, float*, const BF16*, float,
                    BF16*) override {
    note("norm", rows * cols * 12);
  }
  void add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16*, bool, float*, const BF16*, float,
                      BF16*) override {
    note("norm", rows * cols * 12);
  }
  void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16*, float,
                      HeadRows<BF16>) override {
    note("norm of heads", batch * heads * cols * 4);
  }
  void square_sums(std::int64_t batch, std::int64_t cols, const BF16*, std::int64_t, float*) override {
    note("square sums", batch * cols * 2);
  }
  void rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16*, float, const SquareSums&, BF16*,
                     std::int64_t) override {
    note("norm of heads", batch * cols * 4);
  }
  void add_bias(std::int64_t rows, std::int64_t cols, const BF16*, BF16*, std::int64_t) override {
    note("bias", rows * cols * 4);
  }
  void scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth&, const std::int64_t*,
                         BF16*, std::int64_t) override {
    note("query growth", rows * cols * 4);
  }
  void add(std::int64_t count, const BF16*, BF16*) override { note("add", count * 6); }
  void layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16*, const BF16*,
                        float, HeadRows<BF16>) override {
    note("layer norm", batch * heads * cols * 4);
  }
  void linear(std::int64_t m, const BF16*, std::int64_t, const PackedWeight& w, BF16*,
              std::int64_t) override {
    product(m, w, 2);
  }
  void linear(std::int64_t m, const BF16*, std::int64_t, const PackedWeight& w, float*,
              std::int64_t) override {
    product(m, w, 4);
  }
  void linear_per_head(std::int64_t batch, HeadRows<const BF16>, const PackedWeight& w,
                       HeadRows<BF16>) override {
    product(batch, w, 2);
  }
  void rope(const RopeTable& table, std::int64_t batch, std::int64_t heads, const std::int64_t*,
            HeadRows<const BF16> x, HeadRows<BF16> out) override {
    note("rope", batch * heads * (table.rope_dim + (x.data == out.data ? 0 : table.passed)) * 4);
  }
  void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t*, const BF16*, std::int64_t,
                 const BF16* v, std::int64_t) override {
    const std::int64_t values =
        cache.shape.kv_heads * (cache.shape.head_dim + (v == nullptr ? 0 : cache.shape.v_dim));
    const auto rows = static_cast<double>(batch * cache.query_tokens);
    notes_.add(elementwise("append", rows * (static_cast<double>(values) * 2 + token_bytes(cache))));
  }
  void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float, const BF16*, BF16*,
                 float*, std::span<std::byte>) override {
    if (beside_exchange_ != (notes_.exchanges_under_way() > 0))
      throw std::logic_error("attention is told wrongly whether an exchange is under way");
    const auto tokens = static_cast<double>(batch * cache.lengths[0]);
    notes_.add(attention_of(cache.shape, batch, q_heads * cache.query_tokens, cache.lengths[0],
                            tokens * token_bytes(cache)));
  }
  void index_best(const KvView& keys, std::int64_t batch, const IndexQuery& query, std::int64_t, ScoredToken*,
                  float*, std::int64_t) override {
    tokens_ = keys.lengths[0];
    notes_.add(index_of(batch, query.heads, keys.shape.head_dim, tokens_,
                        static_cast<double>(batch * tokens_) * (token_bytes(keys) + 8)));
  }
  /// As the model has it, the chosen lie evenly on the ranks.
  void choose_best(std::int64_t parts, std::int64_t, std::int64_t batch, const ScoredToken*,
                   const ChosenTokens& chosen) override {
    note("choose", parts * batch * chosen.room * 8);
    std::fill_n(chosen.counts, batch, std::min(tokens_, (chosen.room + parts - 1) / parts));
  }
  void gather_tokens(const KvView& from, std::int64_t batch, const ChosenTokens& chosen,
                     const KvView&) override {
    notes_.add(elementwise("gather", 2 * static_cast<double>(batch * chosen.counts[0]) * token_bytes(from)));
  }
  void pack_partials(const PartialShape& shape, const BF16*, const float*, std::byte*) override {
    note("pack", 2 * shape.parts * chunk_bytes(shape));
  }
  void merge_partials(const PartialShape& shape, const std::byte*, BF16*) override {
    note("merge", shape.parts * chunk_bytes(shape) + shape.batch * shape.heads * shape.v_dim * 2);
  }
  void add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float*, BF16*,
                 float*) override {
    note("sinks", batch * heads * v_dim * 4);
  }
  void gated(const GatedUnit&, std::int64_t m, std::int64_t f, const BF16*, BF16*) override {
    note("gated", m * f * 6);
  }
  void gate_rows(std::int64_t rows, std::int64_t cols, const float*, BF16*) override {
    note("gate", rows * cols * 4);
  }
  void route(const RouterShape& shape, std::int64_t batch, const float*, const float*, std::int32_t*,
             float*) override {
    note("route", batch * shape.experts * 4);
  }
  void moe_experts(std::int64_t batch, const BF16*, const ExpertChoice& choice, const ExpertShard& experts,
                   const BF16*, BF16*, std::span<std::byte>) override {
    const PackedWeight &gate_up = experts.gate_up, &down = experts.down;
    notes_.add(experts_of(
        batch, down.n, down.k, gate_up.count, choice.top_k,
        static_cast<double>(gate_up.n * gate_up.k + down.n * down.k) * bytes_per_value(down.dtype)));
  }
  void argmax(std::int64_t batch, std::int64_t cols, const float*, std::int64_t, TopLogit*) override {
    note("argmax", batch * cols * 4);
  }

 private:
  /// O [batch, heads, v_dim] in bf16, then LSE [batch, heads] in fp32, both on a boundary of 16 bytes.
  static std::int64_t chunk_bytes(const PartialShape& s) {
    const auto aligned = [](std::int64_t bytes) { return (bytes + 15) / 16 * 16; };
    return aligned(aligned(s.batch * s.heads * s.v_dim * 2) + s.batch * s.heads * 4);
  }
  double token_bytes(const KvView& cache) const {
    return static_cast<double>(cpu_->kv_page_bytes(cache.shape)) / cache.shape.tokens_per_page;
  }
  void note(std::string_view what, std::int64_t bytes) {
    notes_.add(elementwise(what, static_cast<double>(bytes)));
  }
  void product(std::int64_t m, const PackedWeight& w, std::int64_t out_bytes) {
    const double weights = static_cast<double>(w.count * w.n * w.k) * bytes_per_value(w.dtype);
    notes_.add(
        gemm(m, w.n, w.k, w.count, weights + static_cast<double>(w.count * m * (w.k * 2 + w.n * out_bytes))));
  }

  Notes& notes_;
  std::unique_ptr<Backend> cpu_;
  std::int64_t tokens_ = 0;  // that were scored last
  bool beside_exchange_ = false;
};

}  // namespace helix::testing
