#include <catch2/catch.hpp>
#include <cmath>

#include "roofline/cost/op_cost.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/step/memory.hpp"

using namespace helix;

namespace {

const DecodeShape million{.context = 1000000, .batch = 8, .weight_dtype = DType::fp4, .kv_dtype = DType::fp4};

/// Every legal split of up to 64 GPUs by powers of two.
template <class Visit>
void for_each_split(const ModelSpec& model, const DecodeShape& shape, Visit visit) {
  for (Strategy strategy : {Strategy::helix, Strategy::tp, Strategy::tp_pp, Strategy::medha, Strategy::dp_ep})
    for (int dp = 1; dp <= 64; dp *= 4)
      for (int kvp = 1; kvp * dp <= 64; kvp *= 2)
        for (int tpa = 1; tpa * kvp * dp <= 64; tpa *= 2)
          for (int pp = 1; pp <= 4; pp *= 2)
            for (int ep = 1; ep <= dp * kvp * tpa; ep *= 4) {
              Sharding s{.kvp = kvp, .tpa = tpa, .tpf = dp * kvp * tpa / ep, .ep = ep, .pp = pp, .dp = dp};
              if (strategy == Strategy::medha) s.tpf = tpa;
              if (!why_illegal(model, strategy, s, shape)) visit(strategy, s);
            }
}

}  // namespace

TEST_CASE("Figure 1 of the Helix paper: KV and weight read times of Appendix A") {
  const ModelSpec m = load_model("helix-fig1");  // H = Q x Hsz = 16384, K = 8, F = 65536, one layer
  const SystemSpec gb200 = load_system("gb200");
  REQUIRE(gb200.roofline_bytes_per_s() == 8e12);
  const auto kv_ms = [&](const Sharding& s, const DecodeShape& shape) {
    return predict({m, s, shape}, gb200).kv_bytes_per_rank / 8e12 * 1e3;
  };
  CHECK(kv_ms({.tpa = 1, .tpf = 1}, million) == Approx(1.024).epsilon(1e-12));
  CHECK(kv_ms({.tpa = 8, .tpf = 8}, million) == Approx(0.128).epsilon(1e-12));
  CHECK(kv_ms({.tpa = 64, .tpf = 64}, million) == Approx(0.128).epsilon(1e-12));
  // 31250 blocks of 32 tokens on 8 ranks: the busiest holds 3907, 2e-4 more than an eighth.
  CHECK(kv_ms({.kvp = 8, .tpa = 8, .tpf = 64}, million) == Approx(0.016 * 3907 / 3906.25));
  DecodeShape exact = million;
  exact.tokens_per_block = 8;  // 125000 blocks: an even split
  CHECK(kv_ms({.kvp = 8, .tpa = 8, .tpf = 64}, exact) == Approx(0.016).epsilon(1e-12));
  const Prediction one = predict({m, {}, million}, gb200);
  const double lm_head_bytes = 32 * 16384 * 0.5;
  CHECK((one.weight_bytes_per_rank - lm_head_bytes) / 8e12 * 1e3 == Approx(0.2370).margin(5e-5));
  CHECK(one.roofline_ttl_us == Approx((1.024 + 0.2370) * 1e3).epsilon(1e-3));
}

TEST_CASE("Figure 1 of the TensorRT-LLM blog: the same for MLA, 576 values a token in fp8") {
  const ModelSpec m = load_model("helix-fig1-mla");
  const SystemSpec gb200 = load_system("gb200");
  DecodeShape shape = million;
  shape.weight_dtype = shape.kv_dtype = DType::fp8;
  shape.tokens_per_block = 8;
  const auto kv_ms = [&](const Sharding& s) {
    return predict({m, s, shape}, gb200).kv_bytes_per_rank / 8e12 * 1e3;
  };
  CHECK(kv_ms({}) == Approx(0.576).epsilon(1e-12));
  CHECK(kv_ms({.tpa = 8, .tpf = 8}) == Approx(0.576).epsilon(1e-12));  // TP copies the latent
  CHECK(kv_ms({.kvp = 8, .tpf = 8}) == Approx(0.072).epsilon(1e-12));
}

TEST_CASE("Phases add up to the total, and a row is consistent in itself") {
  const SystemSpec gb200 = load_system("gb200");
  for (const char* name : {"deepseek-r1", "llama-3.1-405b", "gpt-oss-120b"}) {
    const ModelSpec m = load_model(name);
    for_each_split(m, million, [&](Strategy, const Sharding& s) {
      const Prediction p = predict({m, s, million}, gb200);
      INFO(name << " kvp " << s.kvp << " tpa " << s.tpa << " tpf " << s.tpf << " ep " << s.ep << " pp "
                << s.pp);
      REQUIRE(p.phases.total() == Approx(p.model_ttl_us).epsilon(1e-12));
      REQUIRE(p.model_ttl_us > p.roofline_ttl_us);
      REQUIRE(p.exposed_comm_us < p.model_ttl_us);
      REQUIRE((p.comm_bytes_per_rank > 0) == (s.ranks() > 1));
      REQUIRE(p.tokens_per_s_user * p.model_ttl_us == Approx(1e6));
      REQUIRE(p.tokens_per_s_gpu * s.ranks() == Approx(8 * p.tokens_per_s_user));
      REQUIRE(p.fits() == (p.max_batch >= million.batch));
      REQUIRE(p.fits() == (p.max_context >= million.context));
    });
  }
}

TEST_CASE("More bandwidth, link or compute never slows a configuration") {
  const SystemSpec base = load_system("gb200");
  SystemSpec faster = base;
  faster.dram.datasheet_bytes_per_s *= 1.5;
  faster.dram.achieved_bytes_per_s *= 1.5;
  faster.link.bytes_per_s *= 1.5;
  faster.peak_flops.bf16 *= 1.5;
  for (KernelRate& r : faster.kernels) r.bytes_per_s *= 1.5;
  for (CollectiveRate& r : faster.collectives) r.bytes_per_s *= 1.5;
  for (const char* name : {"deepseek-r1", "llama-3.1-405b"}) {
    const ModelSpec m = load_model(name);
    for (int hop_b : {1, 4, 8}) {
      DecodeShape shape = million;
      shape.hop_b = hop_b;
      for_each_split(m, shape, [&](Strategy, const Sharding& s) {
        REQUIRE(predict({m, s, shape}, faster).model_ttl_us <= predict({m, s, shape}, base).model_ttl_us);
      });
    }
  }
}

TEST_CASE("HOP-B: Figure 3 of the Helix paper") {
  // 8 requests, 2 units of attention and 1.2 of communication each.
  CHECK(pipelined_us(16, 9.6, 1) == Approx(25.6));
  CHECK(pipelined_us(2, 1.2, 8) == Approx(17.2));
  CHECK(pipelined_us(1.2, 2, 8) == Approx(17.2));  // bound by communication instead
}

TEST_CASE("The largest batch fits and one more request does not") {
  const SystemSpec gb200 = load_system("gb200");
  for (const char* name : {"deepseek-r1", "llama-3.1-405b"}) {
    const ModelSpec m = load_model(name);
    for_each_split(m, million, [&](Strategy, const Sharding& s) {
      const MemoryModel memory = memory_model({m, s, million});
      const double capacity = gb200.dram.capacity_bytes;
      const std::int64_t most = memory.max_batch(capacity);
      if (most == 0) {
        REQUIRE(memory.bytes(1) > capacity);
      } else {
        REQUIRE(memory.bytes(most) <= capacity);
      }
      REQUIRE(memory.bytes(most + s.dp * s.pp) > capacity);
    });
  }
}

TEST_CASE("The longest context fits and one more block a rank does not") {
  for (const char* name : {"deepseek-r1", "llama-3.1-405b", "gpt-oss-120b"}) {
    const ModelSpec m = load_model(name);
    for_each_split(m, million, [&](Strategy, const Sharding& s) {
      for (const double capacity : {5e10, 1.8e11}) {
        const MemoryModel memory = memory_model({m, s, million});
        const std::int64_t longest = memory.max_context(million.batch, capacity);
        INFO(name << " kvp " << s.kvp << " tpa " << s.tpa << " pp " << s.pp << ": " << longest);
        const auto bytes_at = [&](std::int64_t context) {
          DecodeShape shape = million;
          shape.context = context;
          return memory_model({m, s, shape}).bytes(million.batch);
        };
        if (longest > 0) REQUIRE(bytes_at(longest) <= capacity * (1 + 1e-9));
        REQUIRE(bytes_at(longest + s.kvp * million.tokens_per_block) > capacity * (1 - 1e-9));
      }
    });
  }
}

TEST_CASE("The memory fraction bounds what fits") {
  const ModelSpec m = load_model("llama-3.1-70b");
  SystemSpec h200 = load_system("h200");
  const DecodeShape shape{.context = 4096, .batch = 1};
  // 70.55e9 parameters of 2 bytes are 0.936 of the 143,771 MiB that the driver reports.
  const auto at = [&](double fraction) {
    h200.dram.memory_fraction = fraction;
    return predict({m, {}, shape}, h200);
  };
  CHECK_FALSE(at(0.92).fits());
  CHECK(at(0.92).max_context == 0);
  CHECK(at(1).fits());
  CHECK(at(1).max_context > 4096);
  CHECK(at(1).memory_fraction == 1);
  CHECK_THAT(
      shortage_text(141e9, 150754820096, 0.92),
      Catch::StartsWith("does not fit memory: needs 131.32") && Catch::Contains("--memory-fraction 0.936"));
  CHECK(shortage_text(3e11, 150754820096, 0.92).find("--memory-fraction") == std::string::npos);
}

TEST_CASE("What bounds a step follows its physical terms") {
  // A host whose attention kernel reads a quarter of the DRAM bandwidth, far below the arithmetic's peak too.
  SystemSpec host;
  host.name = "host";
  host.calibrated = true;
  host.dram = {.datasheet_bytes_per_s = 2e10, .achieved_bytes_per_s = 2e10, .capacity_bytes = 1e12};
  host.peak_flops = {.bf16 = 1e12, .fp8 = 1e12, .fp4 = 1e12};
  for (const KernelFamily family :
       {KernelFamily::gemm, KernelFamily::gqa_attention, KernelFamily::mla_attention, KernelFamily::moe,
        KernelFamily::elementwise}) {
    host.kernels.push_back({.family = family, .fixed_us = 1, .bytes_per_s = 2e10, .flops_per_s = 1e12});
  }
  const ModelSpec m = load_model("deepseek-v2-lite");
  const DecodeShape shape{.context = 65536, .batch = 4};
  const auto bound = [&] { return predict({m, {}, shape}, host).bound; };
  CHECK(bound() == Bound::dram);
  host.kernels[2].bytes_per_s = 5e9;
  CHECK(bound() == Bound::kernel);
  host.peak_flops.bf16 = 5e10;  // now the arithmetic takes that long
  for (KernelRate& rate : host.kernels) rate.flops_per_s = 5e10;
  CHECK(bound() == Bound::compute);
  for (KernelRate& rate : host.kernels) rate.fixed_us = 1e6;
  CHECK(bound() == Bound::latency);
}

TEST_CASE("Memory holds every expert, reads only those touched") {
  const ModelSpec m = load_model("deepseek-r1");
  const Prediction p = predict({m, {.tpf = 1, .ep = 8, .dp = 8}, million}, load_system("gb200"));
  CHECK(p.memory_bytes_per_rank > 58 * 32 * 3 * 7168.0 * 2048 * 0.5);
  CHECK(p.weight_bytes_per_rank < p.memory_bytes_per_rank);
}

TEST_CASE("A measured host: fixed cost, the norm of memory and arithmetic, collectives between group sizes") {
  SystemSpec host;
  host.name = "host";
  host.kernels = {
      {.family = KernelFamily::gemm, .fixed_us = 5, .bytes_per_s = 1e9, .flops_per_s = 1e9, .norm = 2}};
  host.collectives = {{.op = Collective::all_reduce, .group = 2, .alpha_us = 10, .bytes_per_s = 1e9},
                      {.op = Collective::all_reduce, .group = 8, .alpha_us = 30, .bytes_per_s = 5e8}};
  Op op{.shape = GemmShape{}, .bytes = {.weights = 2000, .activations = 1000}, .flops = 4000};
  CHECK(op_time(op, host).total_us == Approx(5 + 5));  // hypot(3, 4)
  const auto reduce_us = [&](int group) {
    const CollectiveShape shape{.op = Collective::all_reduce, .group = group, .payload_bytes = 1000};
    return op_time({.shape = shape}, host).total_us;
  };
  CHECK(reduce_us(2) == Approx(11));
  CHECK(reduce_us(4) == Approx(20 + 1.5));
  CHECK(reduce_us(8) == Approx(32));
  CHECK(reduce_us(16) == Approx(40 + 2.5));
  op.shape = MoeShape{};
  CHECK_THROWS_WITH(op_time(op, host), Catch::Contains("moe"));
}
