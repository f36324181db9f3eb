#include <cstring>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/kv_layout.hpp"
#include "kernels/fp8.hpp"

namespace helix::cpu {
namespace {

void store(std::byte* to, BF16 x, bool fp8) {
  if (fp8) {
    const FP8 y = to_fp8(to_float(x));
    std::memcpy(to, &y, sizeof y);
  } else {
    std::memcpy(to, &x, sizeof x);
  }
}

}  // namespace

std::size_t kv_page_bytes(const KvShape& shape) {
  return KvLayout(shape).page_bytes();
}

void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
               std::int64_t ldk, const BF16* v, std::int64_t ldv) {
  const KvLayout layout(cache.shape);
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t page = slots[b] / layout.page_tokens;
    const std::int64_t slot = slots[b] % layout.page_tokens;
    for (std::int64_t h = 0; h < layout.kv_heads; ++h) {
      std::byte* const k_part = head_of_page(cache, layout, b, page, h);
      const BF16* const k_row = k + b * ldk + h * layout.head_dim;
      for (std::int64_t d = 0; d < layout.head_dim; ++d)
        store(k_part + layout.k_offset(slot, d), k_row[d], layout.fp8);
      if (layout.mla) continue;
      std::byte* const v_part = k_part + layout.k_bytes;
      const BF16* const v_row = v + b * ldv + h * layout.v_dim;
      for (std::int64_t d = 0; d < layout.v_dim; ++d)
        store(v_part + layout.v_offset(slot, d), v_row[d], layout.fp8);
    }
  }
}

}  // namespace helix::cpu
