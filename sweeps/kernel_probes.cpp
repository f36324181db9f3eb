#include "sweeps/kernel_probes.hpp"

#include <algorithm>

namespace helix {
namespace {

PackedWeight one(const PackedWeight& many, std::int64_t i) {
  PackedWeight w = many;
  w.data += static_cast<std::size_t>(i % many.count) * many.stride_bytes;
  w.count = 1;
  return w;
}

}  // namespace

KernelRate probe_gemm(Backend& backend, Prober& prober, const ColdMemory& cold) {
  constexpr std::int64_t n = 4096, k = 2048, widest = 64;
  const PackedWeight weights = cold.matrices(backend, n, k);
  auto x = backend.allocate(static_cast<std::size_t>(widest * k) * sizeof(BF16));
  auto y = backend.allocate(static_cast<std::size_t>(widest * n) * sizeof(BF16));
  auto* in = reinterpret_cast<BF16*>(x->data());
  auto* out = reinterpret_cast<BF16*>(y->data());
  backend.fill_matrix(in, {.key = 8, .rows = widest, .cols = k});

  const PackedWeight tiny{
      .data = cold.data(), .n = 16, .k = 32, .stride_bytes = backend.packed_bytes(16, 32, DType::bf16)};
  const double fixed = prober.us([&](std::int64_t) { backend.linear(1, in, 32, tiny, out, 16); });
  std::vector<Probe> probes;
  for (std::int64_t m : {1, 8, 16, 64}) {
    const double us = prober.us([&](std::int64_t i) { backend.linear(m, in, k, one(weights, i), out, n); });
    probes.push_back({.bytes = 2.0 * n * k, .flops = 2.0 * static_cast<double>(m * n * k), .us = us});
  }
  return fit(KernelFamily::gemm, DType::bf16, fixed, probes, prober.take_spread());
}

/// Experts [2 ffn, hidden] and [hidden, ffn]: six that one token chose, and six that eight tokens chose
/// alike.
KernelRate probe_moe(Backend& backend, Prober& prober, const ColdMemory& cold, std::int64_t hidden,
                     std::int64_t ffn) {
  constexpr std::int64_t top_k = 6, widest = 8;
  // Very wide experts are cut to what fits.
  const auto values_each = static_cast<std::int64_t>(cold.bytes() / sizeof(BF16)) / top_k;
  ffn = std::min(ffn, std::max<std::int64_t>(64, values_each / (2 * hidden) / 64 * 64));
  PackedWeight gate_up = cold.matrices(backend, 2 * ffn, hidden);
  PackedWeight down = cold.matrices(backend, hidden, ffn);
  const std::int64_t experts = std::min(gate_up.count, down.count);
  gate_up.count = down.count = experts;

  auto x = backend.allocate(static_cast<std::size_t>(widest * hidden) * sizeof(BF16));
  auto y = backend.allocate(static_cast<std::size_t>(widest * hidden) * sizeof(BF16));
  // Which experts a call chooses; consecutive calls walk through them.
  constexpr std::int64_t turns = 64;
  auto ids = backend.allocate(static_cast<std::size_t>(turns * widest * top_k) * sizeof(std::int32_t));
  auto weights = backend.allocate(static_cast<std::size_t>(widest * top_k) * sizeof(float));
  auto scratch = backend.allocate(backend.moe_scratch_bytes(widest, top_k, hidden, ffn, experts));
  auto* in = reinterpret_cast<BF16*>(x->data());
  backend.fill_matrix(in, {.key = 8, .rows = widest, .cols = hidden});
  std::vector<std::int32_t> chosen;
  for (std::int64_t turn = 0; turn < turns; ++turn) {
    for (std::int64_t i = 0; i < widest * top_k; ++i) {
      chosen.push_back(static_cast<std::int32_t>((turn * top_k + i % top_k) % experts));
    }
  }
  backend.copy_to_device(ids->data(), chosen.data(), chosen.size() * sizeof(std::int32_t));
  const std::vector<float> equal(static_cast<std::size_t>(widest * top_k), 1.0f / top_k);
  backend.copy_to_device(weights->data(), equal.data(), equal.size() * sizeof(float));

  const auto time = [&](std::int64_t batch, std::int64_t first_expert) {
    return prober.us([&](std::int64_t call) {
      const auto* turn = reinterpret_cast<const std::int32_t*>(ids->data()) + call % turns * widest * top_k;
      backend.moe_experts(batch, top_k, in, turn, reinterpret_cast<const float*>(weights->data()),
                          first_expert, gate_up, down, nullptr, reinterpret_cast<BF16*>(y->data()),
                          scratch->data());
    });
  };
  const double fixed = time(1, experts);  // none of the chosen experts is local
  std::vector<Probe> probes;
  for (std::int64_t batch : {std::int64_t{1}, widest}) {
    const double values = 3.0 * static_cast<double>(top_k * hidden * ffn);
    probes.push_back(
        {.bytes = 2 * values, .flops = 2 * values * static_cast<double>(batch), .us = time(batch, 0)});
  }
  return fit(KernelFamily::moe, DType::bf16, fixed, probes, prober.take_spread());
}

KernelRate probe_attention(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                           const std::vector<HeadShape>& shapes) {
  constexpr std::int64_t most_tokens = 4096;
  std::vector<Probe> probes;
  double fixed = 0;
  for (const HeadShape& h : shapes) {
    const KvShape kv{
        .kind = h.kind, .kv_heads = h.kv_heads, .head_dim = h.head_dim, .v_dim = h.v_dim, .dtype = dtype};
    const std::size_t page = backend.kv_page_bytes(kv);
    const auto cold_pages = static_cast<std::int64_t>(cold.bytes() / page);
    const std::int64_t pages = std::min(most_tokens / kv.tokens_per_page, cold_pages);
    const std::int64_t tokens_per_call = pages * kv.tokens_per_page;
    const std::int64_t windows = cold_pages / pages;
    std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
    for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
    auto page_table = backend.allocate(table.size() * sizeof(std::int32_t));
    backend.copy_to_device(page_table->data(), table.data(), table.size() * sizeof(std::int32_t));
    auto length = backend.allocate(sizeof(std::int64_t));

    const auto q_values = static_cast<std::size_t>(h.q_heads * h.head_dim);
    auto q = backend.allocate(q_values * sizeof(BF16));
    auto o = backend.allocate(static_cast<std::size_t>(h.q_heads * h.v_dim) * sizeof(BF16));
    auto lse = backend.allocate(static_cast<std::size_t>(h.q_heads) * sizeof(float));
    auto scratch =
        backend.allocate(std::max<std::size_t>(64, backend.attention_scratch_bytes(kv, 1, h.q_heads)));
    backend.fill_matrix(reinterpret_cast<BF16*>(q->data()),
                        {.key = 9, .rows = 1, .cols = static_cast<std::int64_t>(q_values)});

    KvView view{.shape = kv,
                .pages = cold.data(),
                .page_bytes = page,
                .page_table = reinterpret_cast<const std::int32_t*>(page_table->data()),
                .max_pages = pages,
                .lengths = reinterpret_cast<const std::int64_t*>(length->data())};
    const auto time = [&](std::int64_t tokens) {
      backend.copy_to_device(length->data(), &tokens, sizeof(tokens));
      return prober.us([&](std::int64_t i) {
        view.pages = cold.data() + static_cast<std::size_t>((i % windows) * pages) * page;
        backend.attention(view, 1, h.q_heads, 0.1f, reinterpret_cast<const BF16*>(q->data()),
                          reinterpret_cast<BF16*>(o->data()), reinterpret_cast<float*>(lse->data()),
                          scratch->data());
      });
    };
    if (fixed == 0) fixed = time(1);
    const double row = static_cast<double>(h.kv_heads) *
                       static_cast<double>(h.kind == AttentionKind::mla ? h.head_dim : h.head_dim + h.v_dim);
    probes.push_back(
        {.bytes = static_cast<double>(tokens_per_call) * row * bytes_per_value(dtype),
         .flops = 2.0 * static_cast<double>(tokens_per_call * h.q_heads * (h.head_dim + h.v_dim)),
         .us = time(tokens_per_call)});
  }
  const bool mla = shapes.front().kind == AttentionKind::mla;
  return fit(mla ? KernelFamily::mla_attention : KernelFamily::gqa_attention, dtype, fixed, probes,
             prober.take_spread());
}

KernelRate probe_elementwise(Backend& backend, Prober& prober) {
  constexpr std::int64_t cols = 4096, widest = 64;
  auto x = backend.allocate(widest * cols * sizeof(BF16));
  auto gain = backend.allocate(cols * sizeof(BF16));
  auto residual = backend.allocate(widest * cols * sizeof(float));
  auto out = backend.allocate(widest * cols * sizeof(BF16));
  auto* in = reinterpret_cast<BF16*>(x->data());
  backend.fill_matrix(in, {.key = 8, .rows = widest, .cols = cols});
  backend.fill_matrix(reinterpret_cast<BF16*>(gain->data()), {.key = 9, .rows = 1, .cols = cols});
  const auto time = [&](std::int64_t rows, std::int64_t width) {
    return prober.us([&](std::int64_t) {
      backend.add_rms_norm(rows, width, in, true, reinterpret_cast<float*>(residual->data()),
                           reinterpret_cast<const BF16*>(gain->data()), 1e-5f,
                           reinterpret_cast<BF16*>(out->data()));
    });
  };
  constexpr std::int64_t least = 64;
  const double fixed = time(1, least), many = time(widest, cols);
  const double bytes = static_cast<double>(widest * cols) * (2 * sizeof(BF16) + sizeof(float));
  return {.family = KernelFamily::elementwise,
          .fixed_us = fixed,
          .bytes_per_s = bytes / std::max(many - fixed, 0.01 * many) * 1e6,
          .flops_per_s = 1e15,  // never what bounds them
          .norm = 1,
          .spread = prober.take_spread()};
}

}  // namespace helix
