#include "kernels/cpu/attention/attention.hpp"

#include <omp.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/cpu/attention/chunk_kernel.hpp"
#include "kernels/cpu/attention/kv_chunks.hpp"
#include "kernels/cpu/attention/kv_layout.hpp"
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

HELIX_SIMD_CLONES void mix(std::int64_t n, float weight_x, float weight_y, const float* y, float* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] = weight_x * x[i] + weight_y * y[i];
}

HELIX_SIMD_CLONES void round_to_bf16(std::int64_t n, const float* x, BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_bf16(x[i]);
}

struct Partial {
  float* o;     // [heads, v_dim]
  float* lse2;  // [heads]
};

/// The pages of all units, counted through in the order request, head, page, are split evenly over the
/// workers. A worker finishes the units that lie wholly in its part; of the others it keeps a partial result:
/// `head` of the unit that began before its part, `tail` of the one that goes on after it.
class Decode {
 public:
  Decode(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q, BF16* o,
         float* lse, std::byte* scratch)
      : cache_(cache),
        shape_{KvLayout(cache.shape), q_heads / cache.shape.kv_heads, scale * std::numbers::log2e_v<float>},
        kernel_(choose_kernel(shape_.layout)),
        q_(q),
        o_(o),
        lse_(lse),
        scratch_(scratch) {
    const std::int64_t heads = shape_.heads * shape_.layout.kv_heads;
    for (std::int64_t b = 0; b < batch; ++b) {
      pages_ += unit_pages(b) * shape_.layout.kv_heads;
      if (cache.lengths[b] == 0) std::fill_n(lse + b * heads, heads, -std::numeric_limits<float>::infinity());
    }
  }

  static std::size_t worker_bytes(const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    Carver carver(nullptr);
    for (int i = 0; i < 2; ++i) take_partial(carver, shape);
    // Distinct lines for distinct workers, also where lines are fetched in pairs.
    const std::size_t bytes = carver.used() + choose_kernel(layout).workspace_bytes(shape);
    return (bytes + 127) / 128 * 128;
  }

  void work(int worker, int workers) {
    const std::int64_t begin = first_page(worker, workers), end = first_page(worker + 1, workers);
    Scratch mine = scratch(worker);
    ChunkWalker walker(cache_, shape_.layout, begin, end, kernel_.longest_chunk(shape_));
    Chunk chunks[2];
    std::int64_t open = -1;
    bool more = walker.next(chunks[0]);
    for (int i = 0; more; i ^= 1) {
      const Chunk& chunk = chunks[i];
      more = walker.next(chunks[i ^ 1]);
      if (chunk.unit != open) {
        kernel_.begin(shape_, q_ + chunk.unit * shape_.heads * shape_.layout.head_dim, mine.workspace);
        open = chunk.unit;
      }
      Prefetcher next = more ? Prefetcher(shape_.layout, chunks[i ^ 1]) : Prefetcher();
      kernel_.process(shape_, chunk, next, mine.workspace);
      if (more && chunks[i ^ 1].unit == open) continue;
      const UnitRange unit = range(open);
      const Partial& to = unit.first < begin ? mine.head : mine.tail;
      kernel_.finish(shape_, mine.workspace, to.o, to.lse2);
      if (unit.first >= begin && unit.end <= end) write(open, to, 0, shape_.heads);
    }
  }

  /// After all workers' work: of each unit that lies in the parts of several of them, this worker merges its
  /// share of the heads.
  void merge(int worker, int workers) {
    const std::int64_t first_head = shape_.heads * worker / workers;
    const std::int64_t end_head = shape_.heads * (worker + 1) / workers;
    for (int owner = 0; owner < workers; ++owner) {
      const std::int64_t begin = first_page(owner, workers), end = first_page(owner + 1, workers);
      if (begin == end || end == pages_) continue;
      const std::int64_t unit = unit_of_page(end - 1);
      const UnitRange pages = range(unit);
      if (pages.first < begin || pages.end <= end) continue;
      const Partial sum = scratch(owner).tail;
      for (int other = owner + 1; first_page(other, workers) < pages.end; ++other)
        if (first_page(other, workers) < first_page(other + 1, workers))
          add(sum, scratch(other).head, first_head, end_head);
      write(unit, sum, first_head, end_head);
    }
  }

 private:
  struct UnitRange {
    std::int64_t first, end;
  };
  struct Scratch {
    Partial head, tail;
    std::byte* workspace;
  };

  static Partial take_partial(Carver& carver, const UnitShape& shape) {
    return {carver.take<float>(shape.heads * shape.layout.v_dim), carver.take<float>(shape.heads)};
  }

  Scratch scratch(int worker) const {
    std::byte* const base = scratch_ + static_cast<std::size_t>(worker) * worker_bytes(shape_);
    Carver carver(base);
    const Partial head = take_partial(carver, shape_), tail = take_partial(carver, shape_);
    return {head, tail, base + carver.used()};
  }

  std::int64_t unit_pages(std::int64_t request) const { return shape_.layout.pages(cache_.lengths[request]); }
  std::int64_t first_page(int worker, int workers) const { return pages_ * worker / workers; }

  UnitRange range(std::int64_t unit) const {
    const std::int64_t request = unit / shape_.layout.kv_heads;
    std::int64_t before = 0;
    for (std::int64_t b = 0; b < request; ++b) before += unit_pages(b) * shape_.layout.kv_heads;
    before += unit % shape_.layout.kv_heads * unit_pages(request);
    return {before, before + unit_pages(request)};
  }

  std::int64_t unit_of_page(std::int64_t page) const {
    std::int64_t request = 0;
    for (; page >= unit_pages(request) * shape_.layout.kv_heads; ++request)
      page -= unit_pages(request) * shape_.layout.kv_heads;
    return request * shape_.layout.kv_heads + page / unit_pages(request);
  }

  /// sum = the merge of both, in place, for some heads.
  void add(const Partial& sum, const Partial& other, std::int64_t first_head, std::int64_t end_head) const {
    const std::int64_t v_dim = shape_.layout.v_dim;
    for (std::int64_t h = first_head; h < end_head; ++h) {
      const float a = sum.lse2[h], b = other.lse2[h];
      const float top = std::max(a, b);
      if (top == -std::numeric_limits<float>::infinity()) continue;
      const float weight_a = std::exp2(a - top), weight_b = std::exp2(b - top);
      const float total = weight_a + weight_b;
      mix(v_dim, weight_a / total, weight_b / total, other.o + h * v_dim, sum.o + h * v_dim);
      sum.lse2[h] = top + std::log2(total);
    }
  }

  void write(std::int64_t unit, const Partial& result, std::int64_t first_head, std::int64_t end_head) {
    const std::int64_t v_dim = shape_.layout.v_dim;
    round_to_bf16((end_head - first_head) * v_dim, result.o + first_head * v_dim,
                  o_ + (unit * shape_.heads + first_head) * v_dim);
    for (std::int64_t h = first_head; h < end_head; ++h)
      lse_[unit * shape_.heads + h] = result.lse2[h] * std::numbers::ln2_v<float>;
  }

  const KvView& cache_;
  const UnitShape shape_;
  const ChunkKernel& kernel_;
  const BF16* q_;
  BF16* o_;
  float* lse_;
  std::byte* scratch_;
  std::int64_t pages_ = 0;
};

}  // namespace

std::size_t attention_scratch_bytes(const KvShape& shape, std::int64_t, std::int64_t q_heads, int threads) {
  const UnitShape unit{KvLayout(shape), q_heads / shape.kv_heads, 1.0f};
  return static_cast<std::size_t>(threads) * Decode::worker_bytes(unit);
}

void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q,
               BF16* o, float* lse, std::span<std::byte> scratch, int threads) {
  require_scratch("attention", batch, attention_scratch_bytes(cache.shape, batch, q_heads, threads), scratch);
  Decode decode(cache, batch, q_heads, scale, q, o, lse, scratch.data());
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
