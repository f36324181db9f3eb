#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <new>

#include "kernels/ops/backend.hpp"
#include "roofline/base/error.hpp"
#include "tests/kernels/cpu/isa_scope.hpp"

using namespace helix;

TEST_CASE("the CPU backend's memory") {
  const auto backend = make_cpu_backend(2);
  const auto buffer = backend->allocate(10'000'000);
  REQUIRE(buffer->bytes() == 10'000'000);
  CHECK(reinterpret_cast<std::uintptr_t>(buffer->data()) % 4096 == 0);
  backend->set_bytes(buffer->data(), 0x5a, buffer->bytes());
  const std::int64_t in = 0x0123456789abcdef;
  std::int64_t out = 0;
  backend->copy_to_device(buffer->data() + 8, &in, sizeof(in));
  backend->copy_to_host(&out, buffer->data() + 8, sizeof(out));
  CHECK(out == in);
  CHECK(buffer->data()[7] == std::byte{0x5a});
  CHECK(buffer->data()[9'999'999] == std::byte{0x5a});

  CHECK(backend->allocate(0)->bytes() == 0);
  CHECK_THROWS_AS(backend->allocate(std::size_t{1} << 60), std::bad_alloc);
  CHECK(backend->memory_available() > 0);
}

TEST_CASE("the CPU backend says what it is") {
  const auto backend = make_cpu_backend(3);
  CHECK(backend->name() == "cpu");
  CHECK(backend->threads() == 3);
  CHECK_FALSE(backend->kernel_path().empty());
  CHECK_FALSE(backend->device_name().empty());
}

TEST_CASE("the CPU backend attends with kernels of its own alone") {
  const auto backend = make_cpu_backend(1);
  const KvShape shape{.head_dim = 64, .v_dim = 64, .kernels = KernelMaker::trtllm_gen};
  CHECK(backend->why_not(shape) == "kernels of trtllm-gen are a GPU's");
  CHECK(backend->why_not_attended(shape, 4, 1) == "kernels of trtllm-gen are a GPU's");
  CHECK_THROWS_AS(backend->kv_page_bytes(shape), UsageError);
}

TEST_CASE("the CPU backend names the kernels that a cache gets, not the best there are") {
  const auto backend = make_cpu_backend(1);
  const auto heads = [](std::int64_t dim, DType dtype = DType::bf16) {
    return KvShape{.head_dim = dim, .v_dim = dim, .dtype = dtype};
  };
  const KvShape latent{.kind = AttentionKind::mla, .head_dim = 576, .v_dim = 512};
  testing::on_every_isa([&] {
    const bool amx = best_isa() == Isa::amx;
    for (const KvShape& shape : {heads(64), heads(128), heads(128, DType::fp8), latent}) {
      CHECK(backend->kernel_for(shape) == backend->kernel_path());
      CHECK((backend->kernel_for(shape) == "amx-bf16") == amx);
    }
    if (best_isa() == Isa::avx512_bf16) CHECK(backend->kernel_for(latent) == "avx512-bf16");
    if (best_isa() == Isa::avx512)
      CHECK(backend->kernel_for(latent) == "attention avx512, linear avx512-bf16");
    // The tiles of AMX want multiples of 32.
    if (amx) {
      CHECK(backend->kernel_for(heads(80)) == "attention avx512, linear amx-bf16");
    } else {
      CHECK(backend->kernel_for(heads(80)) == backend->kernel_path());
    }
  });
}

#if defined(__x86_64__) || defined(__aarch64__)
TEST_CASE("the core's clock is one that cores have") {
  const auto backend = make_cpu_backend(1);
  double hz = 0;  // of several tries: other programs only make it seem slower
  for (int i = 0; i < 200; ++i) hz = std::max(hz, backend->core_clock_hz());
  CHECK(hz > 5e8);
  CHECK(hz < 1e10);
}
#endif
