#include "sweeps/machine/kernel_probes.hpp"

#include <algorithm>

#include "sweeps/machine/cost_curve.hpp"

namespace helix {
namespace {

using SharedBuffer = std::shared_ptr<Buffer>;

BF16* bf16(const SharedBuffer& buffer) {
  return reinterpret_cast<BF16*>(buffer->data());
}

SharedBuffer bf16_buffer(Backend& backend, std::int64_t values) {
  return backend.allocate(static_cast<std::size_t>(values) * sizeof(BF16));
}

PackedWeight one(const PackedWeight& many, std::int64_t i) {
  PackedWeight w = many;
  w.data += static_cast<std::size_t>(i % many.count) * many.stride_bytes;
  w.count = 1;
  return w;
}

/// A call that is being timed, and what it moves and computes.
struct TimedCall {
  double bytes, flops;
  const Figure& time;
};

Pending<KernelRate> curve(KernelFamily family, DType dtype, const Figure& fixed,
                          std::vector<TimedCall> works) {
  return [=, &fixed] {
    std::vector<Probe> probes;
    double spread = fixed.spread;
    for (const TimedCall& work : works) {
      probes.push_back({.bytes = work.bytes, .flops = work.flops, .us = work.time.us});
      spread = std::max(spread, work.time.spread);
    }
    KernelRate rate = fit(family, dtype, fixed.us, probes);
    rate.spread = spread;
    return rate;
  };
}

/// A cache of one request in cold memory, elsewhere in it at each call, with as many tokens as take long enough
/// for what a call costs beside them not to matter, and are short beside a time slice.
class ColdCache {
 public:
  ColdCache(Backend& backend, const ColdMemory& cold, const KvShape& shape, double token_flops)
      : shape_(shape), page_bytes_(backend.kv_page_bytes(shape)), memory_(cold.data()) {
    constexpr double most_bytes = 16 << 20, most_flops = 1.2e9;
    const auto most_tokens =
        static_cast<std::int64_t>(std::min(most_bytes / shape.bytes_per_token(), most_flops / token_flops));
    const auto cold_pages = static_cast<std::int64_t>(cold.bytes() / page_bytes_);
    pages_ = std::clamp(most_tokens / shape.tokens_per_page, std::int64_t{1},
                        std::max<std::int64_t>(1, cold_pages));
    windows_ = std::max<std::int64_t>(1, cold_pages / pages_);
    std::vector<std::int32_t> table(static_cast<std::size_t>(pages_));
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
    table_ = backend.allocate(table.size() * sizeof(std::int32_t));
    backend.copy_to_device(table_->data(), table.data(), table.size() * sizeof(std::int32_t));
  }

  std::int64_t tokens() const { return pages_ * shape_.tokens_per_page; }
  KvView view(std::int64_t call, const SharedBuffer& length) const {
    return {.shape = shape_,
            .pages = memory_ + static_cast<std::size_t>((call % windows_) * pages_) * page_bytes_,
            .page_bytes = page_bytes_,
            .page_table = reinterpret_cast<const std::int32_t*>(table_->data()),
            .max_pages = pages_,
            .lengths = reinterpret_cast<const std::int64_t*>(length->data())};
  }

 private:
  KvShape shape_;
  std::size_t page_bytes_;
  std::byte* memory_;
  std::int64_t pages_, windows_;
  SharedBuffer table_;
};

SharedBuffer length_buffer(Backend& backend, std::int64_t tokens) {
  const SharedBuffer length = backend.allocate(sizeof(tokens));
  backend.copy_to_device(length->data(), &tokens, sizeof(tokens));
  return length;
}

}  // namespace

Pending<KernelRate> probe_gemm(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype) {
  constexpr std::int64_t n = 4096, k = 2048, widest = 64;
  const PackedWeight weights = cold.matrices(backend, n, k, dtype);
  const SharedBuffer x = bf16_buffer(backend, widest * k), y = bf16_buffer(backend, widest * n);
  backend.fill_matrix(bf16(x), {.key = 8, .rows = widest, .cols = k});

  const PackedWeight tiny{.data = cold.data(),
                          .n = 16,
                          .k = 32,
                          .stride_bytes = backend.packed_bytes(16, 32, dtype),
                          .dtype = dtype};
  const Figure& fixed =
      prober.time([=, &backend](std::int64_t) { backend.linear(1, bf16(x), 32, tiny, bf16(y), 16); });
  std::vector<TimedCall> works;
  for (std::int64_t m : {std::int64_t{1}, std::int64_t{8}, std::int64_t{16}, widest}) {
    works.push_back({.bytes = bytes_per_value(dtype) * n * k,
                     .flops = 2.0 * static_cast<double>(m * n * k),
                     .time = prober.time([=, &backend](std::int64_t i) {
                       backend.linear(m, bf16(x), k, one(weights, i), bf16(y), n);
                     })});
  }
  return curve(KernelFamily::gemm, dtype, fixed, std::move(works));
}

/// Experts [2 ffn, hidden] and [hidden, ffn]: two that one token chose, and two that many tokens chose alike.
Pending<KernelRate> probe_moe(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                              std::int64_t hidden, std::int64_t ffn) {
  constexpr std::int64_t top_k = 2, widest = 64;
  // Very wide experts are cut to what fits.
  const auto values_each = static_cast<std::int64_t>(cold.bytes() / sizeof(BF16)) / top_k;
  ffn = std::min(ffn, std::max<std::int64_t>(64, values_each / (2 * hidden) / 64 * 64));
  PackedWeight gate_up = cold.matrices(backend, 2 * ffn, hidden, dtype);
  PackedWeight down = cold.matrices(backend, hidden, ffn, dtype);
  const std::int64_t experts = std::min(gate_up.count, down.count);
  gate_up.count = down.count = experts;

  const SharedBuffer x = bf16_buffer(backend, widest * hidden), y = bf16_buffer(backend, widest * hidden);
  // Which experts a call chooses; consecutive calls walk through them.
  constexpr std::int64_t turns = 64;
  const SharedBuffer ids =
      backend.allocate(static_cast<std::size_t>(turns * widest * top_k) * sizeof(std::int32_t));
  const SharedBuffer weights = backend.allocate(static_cast<std::size_t>(widest * top_k) * sizeof(float));
  const SharedBuffer scratch =
      backend.allocate(backend.moe_scratch_bytes(widest, top_k, hidden, ffn, experts));
  backend.fill_matrix(bf16(x), {.key = 8, .rows = widest, .cols = hidden});
  std::vector<std::int32_t> chosen;
  for (std::int64_t turn = 0; turn < turns; ++turn) {
    for (std::int64_t i = 0; i < widest * top_k; ++i) {
      chosen.push_back(static_cast<std::int32_t>((turn * top_k + i % top_k) % experts));
    }
  }
  backend.copy_to_device(ids->data(), chosen.data(), chosen.size() * sizeof(std::int32_t));
  const std::vector<float> equal(static_cast<std::size_t>(widest * top_k), 1.0f / top_k);
  backend.copy_to_device(weights->data(), equal.data(), equal.size() * sizeof(float));

  const auto time = [&](std::int64_t batch, std::int64_t first_expert) -> const Figure& {
    return prober.time([=, &backend](std::int64_t call) {
      const auto* turn = reinterpret_cast<const std::int32_t*>(ids->data()) + call % turns * widest * top_k;
      backend.moe_experts(batch, bf16(x), {turn, reinterpret_cast<const float*>(weights->data()), top_k},
                          {first_expert, gate_up, down}, nullptr, bf16(y),
                          {scratch->data(), scratch->bytes()});
    });
  };
  const Figure& fixed = time(1, experts);  // none of the chosen experts is local
  std::vector<TimedCall> works;
  for (std::int64_t batch : {std::int64_t{1}, std::int64_t{8}, widest}) {
    const double values = 3.0 * static_cast<double>(top_k * hidden * ffn);
    works.push_back({.bytes = bytes_per_value(dtype) * values,
                     .flops = 2 * values * static_cast<double>(batch),
                     .time = time(batch, 0)});
  }
  return curve(KernelFamily::moe, dtype, fixed, std::move(works));
}

Pending<KernelRate> probe_attention(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                                    const std::vector<HeadShape>& shapes) {
  std::vector<TimedCall> works;
  const Figure* fixed = nullptr;
  for (const HeadShape& h : shapes) {
    const KvShape kv = h.cache(dtype);
    const double token_flops = 2.0 * static_cast<double>(h.q_heads * (h.head_dim + h.v_dim));
    const ColdCache cache(backend, cold, kv, token_flops);
    const std::int64_t q_values = h.q_heads * h.head_dim;
    const SharedBuffer q = bf16_buffer(backend, q_values), o = bf16_buffer(backend, h.q_heads * h.v_dim);
    const SharedBuffer lse = backend.allocate(static_cast<std::size_t>(h.q_heads) * sizeof(float));
    const SharedBuffer scratch =
        backend.allocate(std::max<std::size_t>(64, backend.attention_scratch_bytes(kv, 1, h.q_heads)));
    backend.fill_matrix(bf16(q), {.key = 9, .rows = 1, .cols = q_values});

    const auto time = [&](std::int64_t tokens) -> const Figure& {
      const SharedBuffer length = length_buffer(backend, tokens);
      return prober.time([=, &backend](std::int64_t i) {
        backend.attention(cache.view(i, length), 1, h.q_heads, 0.1f, bf16(q), bf16(o),
                          reinterpret_cast<float*>(lse->data()), {scratch->data(), scratch->bytes()});
      });
    };
    if (!fixed) fixed = &time(1);
    const auto tokens = static_cast<double>(cache.tokens());
    works.push_back({.bytes = tokens * kv.bytes_per_token(),
                     .flops = tokens * token_flops,
                     .time = time(cache.tokens())});
  }
  const bool mla = shapes.front().kind == AttentionKind::mla;
  return curve(mla ? KernelFamily::mla_attention : KernelFamily::gqa_attention, dtype, *fixed,
               std::move(works));
}

Pending<KernelRate> probe_indexer(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                                  const std::vector<IndexerSpec>& indexers) {
  constexpr double score_bytes = 2 * sizeof(float);  // written, and read to choose from
  std::vector<TimedCall> works;
  const Figure* fixed = nullptr;
  for (const IndexerSpec& indexer : indexers) {
    const KvShape keys = index_keys(indexer, dtype);
    const std::int64_t q_values = indexer.heads * indexer.head_dim;
    const double token_flops = 2.0 * static_cast<double>(q_values);
    const ColdCache cache(backend, cold, keys, token_flops);
    const SharedBuffer q = bf16_buffer(backend, q_values);
    backend.fill_matrix(bf16(q), {.key = 9, .rows = 1, .cols = q_values});
    const std::vector<float> equal(static_cast<std::size_t>(indexer.heads), 1.0f);
    const SharedBuffer weights = backend.allocate(equal.size() * sizeof(float));
    backend.copy_to_device(weights->data(), equal.data(), equal.size() * sizeof(float));
    const SharedBuffer scores = backend.allocate(static_cast<std::size_t>(cache.tokens()) * sizeof(float));
    const SharedBuffer best = backend.allocate(static_cast<std::size_t>(indexer.top_k) * sizeof(ScoredToken));

    const auto time = [&](std::int64_t tokens) -> const Figure& {
      const SharedBuffer length = length_buffer(backend, tokens);
      return prober.time([=, &backend](std::int64_t i) {
        backend.index_best(cache.view(i, length), 1,
                           {.q = bf16(q),
                            .weights = reinterpret_cast<const float*>(weights->data()),
                            .heads = indexer.heads},
                           indexer.top_k, reinterpret_cast<ScoredToken*>(best->data()),
                           reinterpret_cast<float*>(scores->data()), cache.tokens());
      });
    };
    if (!fixed) fixed = &time(1);
    const auto tokens = static_cast<double>(cache.tokens());
    works.push_back({.bytes = tokens * (keys.bytes_per_token() + score_bytes),
                     .flops = tokens * token_flops,
                     .time = time(cache.tokens())});
  }
  return curve(KernelFamily::indexer, dtype, *fixed, std::move(works));
}

Pending<KernelRate> probe_elementwise(Backend& backend, Prober& prober) {
  constexpr std::int64_t cols = 4096, widest = 64;
  const SharedBuffer x = bf16_buffer(backend, widest * cols), gain = bf16_buffer(backend, cols),
                     out = bf16_buffer(backend, widest * cols);
  const SharedBuffer residual = backend.allocate(widest * cols * sizeof(float));
  backend.fill_matrix(bf16(x), {.key = 8, .rows = widest, .cols = cols});
  backend.fill_matrix(bf16(gain), {.key = 9, .rows = 1, .cols = cols});
  const auto time = [&](std::int64_t rows, std::int64_t width) -> const Figure& {
    return prober.time([=, &backend](std::int64_t) {
      backend.add_rms_norm(rows, width, bf16(x), true, reinterpret_cast<float*>(residual->data()), bf16(gain),
                           1e-5f, bf16(out));
    });
  };
  constexpr std::int64_t least = 64;
  const Figure &fixed = time(1, least), &many = time(widest, cols);
  return [&fixed, &many] {
    const double bytes = static_cast<double>(widest * cols) * (2 * sizeof(BF16) + sizeof(float));
    return KernelRate{.family = KernelFamily::elementwise,
                      .fixed_us = fixed.us,
                      .bytes_per_s = bytes / std::max(many.us - fixed.us, 0.01 * many.us) * 1e6,
                      .flops_per_s = 1e15,  // never what bounds them
                      .norm = 1,
                      .spread = std::max(fixed.spread, many.spread)};
  };
}

}  // namespace helix
