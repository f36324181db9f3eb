// How a worker walks through its part of the paged cache: chunk by chunk of up to 256 tokens of one unit (a
// KV head of a request), with the next chunk prefetched while one is computed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kv_layout.hpp"
#include "kernels/ops.hpp"

namespace helix::cpu {

constexpr std::int64_t chunk_tokens = 256;

/// Consecutive slots of one page.
struct Segment {
  const std::byte* k = nullptr;  // word column (GQA) or row (MLA) of the first slot
  const std::byte* v = nullptr;  // word row of the first slot; MLA: null
  std::int64_t slots = 0;        // a multiple of the walker's granule; those from `valid` on hold garbage
  std::int64_t valid = 0;
  std::int64_t column = 0;  // of the first slot in the chunk's scores
};

struct Chunk {
  std::int64_t unit = -1;    // request * kv_heads + head
  std::int64_t columns = 0;  // slots of all segments
  int count = 0;
  Segment segments[chunk_tokens / 16];
};

class ChunkWalker {
 public:
  /// Pages [first, end) of all units' pages counted through in the order request, head, page.
  ChunkWalker(const KvView& cache, const KvLayout& layout, std::int64_t first, std::int64_t end)
      : cache_(cache), layout_(layout), pages_left_(end - first) {
    if (pages_left_ == 0) return;
    for (std::int64_t skipped = 0;; ++request_) {
      const std::int64_t pages = layout_.pages(cache_.lengths[request_]);
      if (first < skipped + pages * layout_.kv_heads) {
        head_ = (first - skipped) / pages;
        page_ = (first - skipped) % pages;
        return;
      }
      skipped += pages * layout_.kv_heads;
    }
  }

  bool next(Chunk& chunk) {
    if (pages_left_ == 0) return false;
    const std::int64_t length = cache_.lengths[request_];
    const std::int64_t unit_pages = layout_.pages(length);
    chunk.unit = request_ * layout_.kv_heads + head_;
    chunk.columns = 0;
    chunk.count = 0;
    while (chunk.columns < chunk_tokens && pages_left_ > 0 && page_ < unit_pages) {
      const std::int64_t in_page =
          std::min(layout_.page_tokens, length - page_ * layout_.page_tokens) - slot_;
      const std::int64_t padded = (in_page + granule() - 1) / granule() * granule();
      Segment& s = chunk.segments[chunk.count++];
      s.slots = std::min(padded, chunk_tokens - chunk.columns);
      s.valid = std::min(in_page, s.slots);
      s.column = chunk.columns;
      const std::byte* const part = head_of_page(cache_, layout_, request_, page_, head_);
      s.k = part + layout_.k_offset(slot_, 0);
      s.v = layout_.mla ? nullptr : part + layout_.k_bytes + layout_.v_offset(slot_, 0);
      chunk.columns += s.slots;
      slot_ += s.slots;
      if (s.slots == padded) {
        slot_ = 0;
        ++page_;
        --pages_left_;
      }
    }
    if (page_ == unit_pages) next_unit();
    return true;
  }

 private:
  /// Slots that stay together: a tile of V holds 32 tokens where pages allow it.
  std::int64_t granule() const { return layout_.padded_tokens % 32 == 0 ? 32 : 16; }

  void next_unit() {
    page_ = 0;
    if (++head_ < layout_.kv_heads) return;
    head_ = 0;
    ++request_;
    if (pages_left_ == 0) return;
    while (cache_.lengths[request_] == 0) ++request_;
  }

  const KvView& cache_;
  const KvLayout& layout_;
  std::int64_t request_ = 0, head_ = 0, page_ = 0, slot_ = 0;
  std::int64_t pages_left_;
};

/// Reads ahead into L2, one line of each segment in turn: a core reaches its full bandwidth with several
/// streams.
class Prefetcher {
 public:
  Prefetcher() = default;
  Prefetcher(const KvLayout& layout, const Chunk& chunk) {
    // A GQA slot's words lie all over its head's part, which is contiguous only as a whole.
    if (!layout.mla && layout.padded_tokens > chunk_tokens) return;
    for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s) {
      const std::size_t bytes =
          layout.mla ? static_cast<std::size_t>(s->slots * layout.head_dim) * layout.value_bytes
                     : layout.head_bytes();
      stream_[streams_++] = s->k;
      lines_ = std::max(lines_, static_cast<std::int64_t>(bytes + 63) / 64);
    }
  }

  std::int64_t total() const { return streams_ * lines_; }

  void advance(std::int64_t lines) {
    for (; lines > 0 && line_ < lines_; --lines) {
      __builtin_prefetch(stream_[at_] + line_ * 64, 0, 2);
      if (++at_ == streams_) {
        at_ = 0;
        ++line_;
      }
    }
  }

 private:
  const std::byte* stream_[chunk_tokens / 16];
  int streams_ = 0, at_ = 0;
  std::int64_t lines_ = 0, line_ = 0;
};

}  // namespace helix::cpu
