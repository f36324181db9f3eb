// How a worker walks through its part of the paged cache: chunk by chunk of tokens of one KV head of a request, with
// the next chunk prefetched while one is computed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cpu {

constexpr std::int64_t chunk_tokens = 512;  // at most

/// Consecutive slots of one page.
struct Segment {
  const std::byte* k = nullptr;  // tiles of the first slot
  const std::byte* v = nullptr;  // likewise; MLA: null
  std::int64_t slots = 0;        // a multiple of the layout's granule; those from `valid` on hold garbage
  std::int64_t valid = 0;
  std::int64_t column = 0;  // of the first slot in the chunk's scores
};

/// A unit is some KV heads of a request that a worker attends side by side: one, or all.
struct Chunk {
  std::int64_t unit = -1;    // counted through in the order request, head
  std::int64_t head = 0;     // of the unit's
  std::int64_t columns = 0;  // slots of all segments
  int count = 0;
  Segment segments[chunk_tokens / 16];
};

class ChunkWalker {
 public:
  /// Pages [first, end) of all units' pages, of tokens that all rows attend, counted through in the order unit, page,
  /// in chunks of up to `longest` tokens of one KV head. Units of several heads go through each page as it lies in
  /// memory: head by head.
  ChunkWalker(const KvView& cache, const KvLayout& layout, std::int64_t unit_heads, std::int64_t first,
              std::int64_t end, std::int64_t longest)
      : cache_(cache),
        layout_(layout),
        unit_heads_(unit_heads),
        units_(layout.kv_heads / unit_heads),
        longest_(longest),
        pages_left_(end - first) {
    if (pages_left_ == 0) return;
    for (std::int64_t skipped = 0;; ++request_) {
      const std::int64_t pages = layout_.pages(shared_tokens(cache_, request_));
      if (first < skipped + pages * units_) {
        unit_ = (first - skipped) / pages;
        page_ = (first - skipped) % pages;
        return;
      }
      skipped += pages * units_;
    }
  }

  bool next(Chunk& chunk) {
    if (pages_left_ == 0) return false;
    const std::int64_t length = shared_tokens(cache_, request_);
    const std::int64_t unit_pages = layout_.pages(length);
    chunk.unit = request_ * units_ + unit_;
    chunk.head = head_;
    chunk.columns = 0;
    chunk.count = 0;
    while (chunk.columns < longest_ && pages_left_ > 0 && page_ < unit_pages) {
      const std::int64_t in_page =
          std::min(layout_.page_tokens, length - page_ * layout_.page_tokens) - slot_;
      const std::int64_t padded = (in_page + layout_.granule - 1) & -layout_.granule;
      Segment& s = chunk.segments[chunk.count++];
      s.slots = std::min(padded, longest_ - chunk.columns);
      s.valid = std::min(in_page, s.slots);
      s.column = chunk.columns;
      const std::byte* const part =
          head_of_page(cache_, layout_, request_, page_, unit_ * unit_heads_ + head_);
      // Rows of whole granules follow each other.
      const auto slots = static_cast<std::size_t>(slot_) * layout_.value_bytes;
      s.k = part + slots * static_cast<std::size_t>(layout_.head_dim);
      s.v = layout_.mla ? nullptr : part + layout_.k_bytes + slots * static_cast<std::size_t>(layout_.v_dim);
      chunk.columns += s.slots;
      slot_ += s.slots;
      if (s.slots < padded) break;
      slot_ = 0;
      if (++head_ == unit_heads_) {
        head_ = 0;
        ++page_;
        --pages_left_;
      }
      if (unit_heads_ > 1) break;  // what lies next is another head's
    }
    if (page_ == unit_pages) next_unit();
    return true;
  }

 private:
  void next_unit() {
    page_ = 0;
    if (++unit_ < units_) return;
    unit_ = 0;
    ++request_;
    if (pages_left_ == 0) return;
    while (shared_tokens(cache_, request_) == 0) ++request_;
  }

  const KvView& cache_;
  const KvLayout& layout_;
  std::int64_t unit_heads_, units_;  // heads of a unit, and units of a request
  std::int64_t longest_;
  std::int64_t request_ = 0, unit_ = 0, page_ = 0, head_ = 0, slot_ = 0;
  std::int64_t pages_left_;
};

/// Reads ahead into L2. A kernel that reads in blocks has the next chunk read evenly over the steps of computing one,
/// two lines of each segment in turn: a core reaches its full bandwidth with several streams, and only if requests
/// come in small batches, or loads that would hit queue behind them. A kernel that reads in order has one line more
/// read at each of its lines, a fixed distance ahead.
class Prefetcher {
 public:
  Prefetcher() = default;
  static Prefetcher in_blocks(const KvLayout& layout, const Chunk& next) {
    Prefetcher p;
    p.segments_ = next.segments;
    p.streams_ = next.count;
    for (const Segment* s = next.segments; s != next.segments + next.count; ++s)
      p.bytes_ = std::max(p.bytes_, bytes_of(layout, *s));
    return p;
  }
  /// The chunks are of one segment.
  static Prefetcher in_order(const KvLayout& layout, const Chunk& now, const Chunk* next) {
    Prefetcher p;
    p.lines_ = lines_of(layout, now.segments[0]);
    p.lines_.begin = std::min(p.lines_.begin + lead, p.lines_.end);
    if (next != nullptr) p.next_lines_ = lines_of(layout, next->segments[0]);
    return p;
  }

  /// Says how many times `step` will be called.
  void plan(std::int64_t steps) { bytes_a_step_ = streams_ * bytes_ / std::max<std::int64_t>(steps, 1) + 1; }

  void step() {
    due_ += bytes_a_step_;
    while (due_ >= burst && at_ < bytes_) {
      const std::byte* const lines = segments_[turn_].k + at_;
      __builtin_prefetch(lines, 0, 2);
      __builtin_prefetch(lines + 64, 0, 2);
      due_ -= burst;
      if (++turn_ == streams_) {
        turn_ = 0;
        at_ += burst;
      }
    }
  }

  /// A line in order.
  void line() {
    if (lines_.begin == lines_.end) {
      lines_ = std::exchange(next_lines_, {});
      if (lines_.begin == lines_.end) return;
    }
    __builtin_prefetch(lines_.begin, 0, 2);
    lines_.begin += 64;
  }

 private:
  struct Lines {
    const std::byte *begin = nullptr, *end = nullptr;
  };

  /// The V of a whole page follows its K; of the rest of a page only K is read ahead here.
  static std::int64_t bytes_of(const KvLayout& layout, const Segment& s) {
    const bool whole = s.slots == layout.padded_tokens && !layout.mla;
    return static_cast<std::int64_t>(whole ? layout.head_bytes()
                                           : static_cast<std::size_t>(s.slots * layout.head_dim) *
                                                 layout.value_bytes);
  }
  static Lines lines_of(const KvLayout& layout, const Segment& s) { return {s.k, s.k + bytes_of(layout, s)}; }

  static constexpr std::int64_t burst = 128;
  // On a Zen 4, of 6 to 64 KiB the best: 8 and 16 are a tenth slower where reading binds.
  static constexpr std::int64_t lead = 10240;

  const Segment* segments_ = nullptr;  // one stream each
  int streams_ = 0, turn_ = 0;
  std::int64_t bytes_ = 0, at_ = 0;  // of each stream
  std::int64_t bytes_a_step_ = 0, due_ = 0;
  Lines lines_, next_lines_;
};

}  // namespace helix::cpu
