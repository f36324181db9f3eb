#include "kernels/cpu/attention/attention.hpp"

#include <omp.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/cpu/attention/chunk_kernel.hpp"
#include "kernels/cpu/attention/kv_chunks.hpp"
#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/cpu/attention/tail.hpp"
#include "kernels/cpu/machine/isa.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

const ChunkKernel& choose_kernel(const KvLayout& layout) {
  const Isa isa = best_isa();  // sets what Highway dispatches to, too
#if HELIX_HAVE_AMX
  if (isa >= Isa::amx && layout.mla) return amx_mla_chunk_kernel();
  if (isa >= Isa::amx && layout.head_dim % 32 == 0) return amx_chunk_kernel();
  if (isa >= Isa::avx512) {
    const bool dots = isa == Isa::avx512_bf16;
    return layout.mla ? avx512_mla_chunk_kernel(dots) : avx512_chunk_kernel(dots);
  }
#endif
  return layout.mla ? vector_mla_chunk_kernel() : vector_chunk_kernel();
}

HELIX_SIMD_CLONES void round_to_bf16(std::int64_t n, const float* x, BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_bf16(x[i]);
}

/// A unit is one KV head of a request, or all of them where the kernel reads in order, with the query heads of all
/// rows. The pages of all units, counted through, are split evenly over the workers. A worker finishes the units that
/// lie wholly in its part; of the others it keeps a partial result: `head` of the unit that began before its part,
/// `tail` of the one that goes on after it. Tokens that only some rows attend are added as results are written.
class Decode {
 public:
  Decode(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q, BF16* o,
         float* lse, std::byte* scratch, int threads)
      : cache_(cache),
        shape_{KvLayout(cache.shape), q_heads / cache.shape.kv_heads * cache.query_tokens,
               scale * std::numbers::log2e_v<float>},
        group_(q_heads / cache.shape.kv_heads),
        kernel_(choose_kernel(shape_.layout)),
        workspace_bytes_(kernel_.workspace_bytes(shape_)),
        kv_heads_(unit_kv_heads(cache, batch, shape_, threads)),
        heads_(kv_heads_ * shape_.heads),
        units_of_request_(cache.shape.kv_heads / kv_heads_),
        units_(batch * units_of_request_),
        q_(q),
        o_(o),
        lse_(lse),
        scratch_(scratch) {
    for (std::int64_t b = 0; b < batch; ++b) pages_ += unit_pages(b) * units_of_request_;
  }

  static std::size_t worker_bytes(const UnitShape& shape) {
    Carver carver(nullptr);
    Arrays(carver, shape);
    // Distinct lines for distinct workers, also where lines are fetched in pairs.
    const std::size_t bytes = carver.used() + static_cast<std::size_t>(most_kv_heads(shape)) *
                                                  choose_kernel(shape.layout).workspace_bytes(shape);
    return (bytes + 127) / 128 * 128;
  }

  void work(int worker, int workers) {
    const std::int64_t begin = first_page(worker, workers), end = first_page(worker + 1, workers);
    Scratch mine = scratch(worker);
    finish_without_pages(worker, workers, mine);
    ChunkWalker walker(cache_, shape_.layout, kv_heads_, begin, end, kernel_.longest_chunk(shape_));
    Chunk chunks[2];
    std::int64_t open = -1;
    bool more = walker.next(chunks[0]);
    for (int i = 0; more; i ^= 1) {
      const Chunk& chunk = chunks[i];
      more = walker.next(chunks[i ^ 1]);
      if (chunk.unit != open) {
        open = chunk.unit;
        for (std::int64_t k = 0; k < kv_heads_; ++k)
          kernel_.begin(shape_, queries(open, k, mine.arrays.q), workspace(mine, k));
      }
      Prefetcher next = prefetcher(chunk, more ? &chunks[i ^ 1] : nullptr);
      kernel_.process(shape_, chunk, next, workspace(mine, chunk.head));
      if (more && chunks[i ^ 1].unit == open) continue;
      const UnitRange unit = range(open);
      const Partial& to = unit.first < begin ? mine.arrays.head : mine.arrays.tail;
      for (std::int64_t k = 0; k < kv_heads_; ++k) {
        const std::int64_t head = k * shape_.heads;
        kernel_.finish(shape_, workspace(mine, k), to.o + head * shape_.layout.v_dim, to.lse2 + head);
      }
      if (unit.first >= begin && unit.end <= end) write(open, to, 0, heads_, mine.arrays.token);
    }
  }

  /// After all workers' work: of each unit that lies in the parts of several of them, this worker merges its
  /// share of the heads.
  void merge(int worker, int workers) {
    const std::int64_t first_head = heads_ * worker / workers;
    const std::int64_t end_head = heads_ * (worker + 1) / workers;
    for (int owner = 0; owner < workers; ++owner) {
      const std::int64_t begin = first_page(owner, workers), end = first_page(owner + 1, workers);
      if (begin == end || end == pages_) continue;
      const std::int64_t unit = unit_of_page(end - 1);
      const UnitRange pages = range(unit);
      if (pages.first < begin || pages.end <= end) continue;
      const Partial sum = scratch(owner).arrays.tail;
      for (int other = owner + 1; first_page(other, workers) < pages.end; ++other)
        if (first_page(other, workers) < first_page(other + 1, workers))
          add(sum, scratch(other).arrays.head, first_head, end_head);
      write(unit, sum, first_head, end_head, scratch(worker).arrays.token);
    }
  }

 private:
  struct UnitRange {
    std::int64_t first, end;
  };
  struct Arrays {
    Arrays(Carver& carver, const UnitShape& shape)
        : head(partial(carver, shape)),
          tail(partial(carver, shape)),
          token(carver, shape.layout),
          q(carver.take<BF16>(shape.heads * shape.layout.head_dim)) {}

    Partial head, tail;
    TailToken token;
    BF16* q;  // of a KV head

   private:
    static Partial partial(Carver& carver, const UnitShape& shape) {
      const std::int64_t heads = most_kv_heads(shape) * shape.heads;
      return {carver.take<float>(heads * shape.layout.v_dim), carver.take<float>(heads)};
    }
  };
  struct Scratch {
    Arrays arrays;
    std::byte* workspaces;  // of a unit's KV heads
  };

  static std::int64_t most_kv_heads(const UnitShape& shape) {
    return choose_kernel(shape.layout).reads_in_order(shape) ? shape.layout.kv_heads : 1;
  }

  /// Few pages are split over the workers more evenly if each KV head is a unit.
  static std::int64_t unit_kv_heads(const KvView& cache, std::int64_t batch, const UnitShape& shape,
                                    int threads) {
    constexpr std::int64_t enough = 16;  // pages of a worker
    std::int64_t pages = 0;
    for (std::int64_t b = 0; b < batch; ++b) pages += shape.layout.pages(shared_tokens(cache, b));
    return pages >= enough * threads ? most_kv_heads(shape) : 1;
  }

  std::byte* workspace(const Scratch& mine, std::int64_t kv_head) const {
    return mine.workspaces + static_cast<std::size_t>(kv_head) * workspace_bytes_;
  }

  Scratch scratch(int worker) const {
    std::byte* const base = scratch_ + static_cast<std::size_t>(worker) * worker_bytes(shape_);
    Carver carver(base);
    const Arrays arrays(carver, shape_);
    return {arrays, base + carver.used()};
  }

  Prefetcher prefetcher(const Chunk& now, const Chunk* next) const {
    if (kernel_.reads_in_order(shape_)) return Prefetcher::in_order(shape_.layout, now, next);
    return next != nullptr ? Prefetcher::in_blocks(shape_.layout, *next) : Prefetcher();
  }

  std::int64_t request_of(std::int64_t unit) const { return unit / units_of_request_; }
  std::int64_t first_kv_head(std::int64_t unit) const { return unit % units_of_request_ * kv_heads_; }

  /// Of q, o and lse, where a unit's head lies.
  std::int64_t row(std::int64_t unit, std::int64_t head) const {
    const std::int64_t kv_head = first_kv_head(unit) + head / shape_.heads;
    const std::int64_t query_token = head % shape_.heads / group_;
    return ((request_of(unit) * cache_.query_tokens + query_token) * shape_.layout.kv_heads + kv_head) *
               group_ +
           head % group_;
  }

  /// The queries of one of a unit's KV heads side by side.
  const BF16* queries(std::int64_t unit, std::int64_t kv_head, BF16* gathered) const {
    const std::int64_t dim = shape_.layout.head_dim, of_row = group_ * dim, first = kv_head * shape_.heads;
    if (shape_.heads == group_ || shape_.layout.kv_heads == 1) return q_ + row(unit, first) * dim;
    for (std::int64_t head = 0; head < shape_.heads; head += group_)
      std::copy_n(q_ + row(unit, first + head) * dim, of_row, gathered + head * dim);
    return gathered;
  }

  /// Units that no chunk has a part in.
  void finish_without_pages(int worker, int workers, const Scratch& mine) {
    for (std::int64_t unit = worker; unit < units_; unit += workers) {
      if (unit_pages(request_of(unit)) > 0) continue;
      std::fill_n(mine.arrays.head.lse2, heads_, -std::numeric_limits<float>::infinity());
      write(unit, mine.arrays.head, 0, heads_, mine.arrays.token);
    }
  }

  std::int64_t unit_pages(std::int64_t request) const {
    return shape_.layout.pages(shared_tokens(cache_, request));
  }
  std::int64_t first_page(int worker, int workers) const { return pages_ * worker / workers; }

  UnitRange range(std::int64_t unit) const {
    const std::int64_t request = request_of(unit);
    std::int64_t before = 0;
    for (std::int64_t b = 0; b < request; ++b) before += unit_pages(b) * units_of_request_;
    before += unit % units_of_request_ * unit_pages(request);
    return {before, before + unit_pages(request)};
  }

  std::int64_t unit_of_page(std::int64_t page) const {
    std::int64_t request = 0;
    for (; page >= unit_pages(request) * units_of_request_; ++request)
      page -= unit_pages(request) * units_of_request_;
    return request * units_of_request_ + page / unit_pages(request);
  }

  /// sum = the merge of both, in place, for some heads.
  void add(const Partial& sum, const Partial& other, std::int64_t first_head, std::int64_t end_head) const {
    const std::int64_t v_dim = shape_.layout.v_dim;
    for (std::int64_t h = first_head; h < end_head; ++h)
      merge_row(v_dim, other.lse2[h], other.o + h * v_dim, sum, h);
  }

  void add_tail(std::int64_t unit, const Partial& result, std::int64_t first_head, std::int64_t end_head,
                const TailToken& token) const {
    const KvLayout& layout = shape_.layout;
    const std::int64_t request = request_of(unit), first = shared_tokens(cache_, request);
    for (std::int64_t t = first; t < all_tokens(cache_, request); ++t)
      for (std::int64_t h = first_head; h < end_head; ++h) {
        if (h == first_head || h % shape_.heads == 0)
          token.load(cache_, layout, request, first_kv_head(unit) + h / shape_.heads, t);
        if (t < cache_.lengths[request * cache_.query_tokens + h % shape_.heads / group_])
          token.add(layout, q_ + row(unit, h) * layout.head_dim, shape_.scale_log2, result, h);
      }
  }

  void write(std::int64_t unit, const Partial& result, std::int64_t first_head, std::int64_t end_head,
             const TailToken& token) {
    add_tail(unit, result, first_head, end_head, token);
    const std::int64_t v_dim = shape_.layout.v_dim;
    for (std::int64_t h = first_head; h < end_head; ++h) {
      const std::int64_t to = row(unit, h);
      lse_[to] = result.lse2[h] * std::numbers::ln2_v<float>;
      if (result.lse2[h] == -std::numeric_limits<float>::infinity()) continue;
      round_to_bf16(v_dim, result.o + h * v_dim, o_ + to * v_dim);
    }
  }

  const KvView& cache_;
  const UnitShape shape_;
  const std::int64_t group_;
  const ChunkKernel& kernel_;
  const std::size_t workspace_bytes_;    // of a KV head
  const std::int64_t kv_heads_, heads_;  // of a unit
  const std::int64_t units_of_request_, units_;
  const BF16* q_;
  BF16* o_;
  float* lse_;
  std::byte* scratch_;
  std::int64_t pages_ = 0;
};

}  // namespace

std::size_t attention_scratch_bytes(const KvShape& shape, std::int64_t, std::int64_t q_heads, int threads) {
  const KvLayout layout(shape);
  std::size_t most = 0;  // fewer heads, if a unit then has all KV heads, can take more
  for (std::int64_t heads = 1; heads <= q_heads / shape.kv_heads; ++heads)
    most = std::max(most, Decode::worker_bytes({layout, heads, 1.0f}));
  return static_cast<std::size_t>(threads) * most;
}

void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q,
               BF16* o, float* lse, std::span<std::byte> scratch, int threads) {
  const UnitShape unit{KvLayout(cache.shape), q_heads / cache.shape.kv_heads * cache.query_tokens, scale};
  require_scratch("attention", batch, static_cast<std::size_t>(threads) * Decode::worker_bytes(unit),
                  scratch);
  Decode decode(cache, batch, q_heads, scale, q, o, lse, scratch.data(), threads);
  if (threads == 1) {
    decode.work(0, 1);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    decode.work(omp_get_thread_num(), omp_get_num_threads());
#pragma omp barrier
    decode.merge(omp_get_thread_num(), omp_get_num_threads());
  }
}

std::string why_not_attended(const KvShape& shape) {
  return why_no_layout(shape);
}

std::string attention_kernel(const KvShape& shape) {
  return choose_kernel(KvLayout(shape)).name();
}

}  // namespace helix::cpu
