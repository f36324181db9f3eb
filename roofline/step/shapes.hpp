// What attention keeps, exchanges and cuts: shapes that the model of a step and its execution share. Bytes of a
// chunk on its way to a KVP peer and HOP-B's pieces are stated here and nowhere else.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/dtype.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/step/kernel_maker.hpp"
#include "roofline/step/range.hpp"

namespace helix {

/// Shape of one rank's KV cache in one layer.
struct KvShape {
  AttentionKind kind = AttentionKind::gqa;
  std::int64_t kv_heads = 1;  // local ones; MLA: 1
  std::int64_t head_dim = 0;  // width of a K row; MLA: latent + rope (576)
  std::int64_t v_dim = 0;     // width of a V row; MLA: latent (512), which is the head of the K row
  int tokens_per_page = 32;
  DType dtype = DType::bf16;
  KernelMaker kernels = KernelMaker::own;  // that attend it
  bool operator==(const KvShape&) const = default;

  /// Of one token, all local heads.
  std::int64_t values_per_token() const {
    return kv_heads * (kind == AttentionKind::mla ? head_dim : head_dim + v_dim);
  }
  double bytes_per_token() const { return real(values_per_token()) * bytes_per_value(dtype); }
  std::int64_t pages(std::int64_t tokens) const { return ceil_div(tokens, tokens_per_page); }
};

/// Room for requests in the layers of a rank: pages for `history` tokens of each and `growth` more.
struct CacheRoom {
  KvShape shape;
  std::vector<std::int64_t> layers{0};  // of the model
  std::int64_t requests = 1;
  Range history;                  // global positions that are cached before decoding starts
  std::int64_t growth = 0;        // tokens appended to them
  std::int64_t query_tokens = 1;  // of each request in a step
  std::int64_t pages_per_request() const { return shape.pages(history.size() + growth); }
};

/// Partial attention results packed for the all-to-all, for each of `parts` KVP peers one chunk of
/// chunk_bytes(): O as bf16 [batch, heads, v_dim], then LSE as fp32 [batch, heads] at the next multiple
/// of 16 bytes.
struct PartialShape {
  std::int64_t parts = 1, batch = 0, heads = 0, v_dim = 0;  // heads: of one part
  std::size_t output_bytes() const { return static_cast<std::size_t>(batch * heads * v_dim) * 2; }
  std::size_t lse_offset() const { return (output_bytes() + 15) / 16 * 16; }
  std::size_t chunk_bytes() const {
    return (lse_offset() + static_cast<std::size_t>(batch * heads) * sizeof(float) + 15) / 16 * 16;
  }
};

/// HOP-B: the requests that a rank attends, in pieces, each of which travels while the next ones are attended.
/// One piece: no overlap.
struct Pieces {
  Pieces(std::int64_t of_requests, int hop_b)
      : requests(of_requests),
        count(static_cast<int>(std::clamp<std::int64_t>(hop_b, 1, std::max<std::int64_t>(1, of_requests)))) {}

  std::int64_t requests;
  int count;
  Range operator[](int piece) const { return even_split(requests, count, piece); }
  std::int64_t largest() const { return (*this)[0].size(); }
};

}  // namespace helix
