#include <catch2/catch.hpp>

#include "kernels/reference/reference_model.hpp"
#include "roofline/model/model_spec.hpp"
#include "sweeps/measure/verify.hpp"

using namespace helix;

TEST_CASE("long contexts are verified in fewer steps, whose owners still change, and for fewer requests") {
  const ModelSpec model = load_model("deepseek-r1");
  const auto work = [&](std::int64_t context) {
    return reference::attention_work({.model = model, .layers = {0, 3}, .context = context});
  };
  CHECK(work(1000) == 2 * 1000.0 * 128 * (576 + 512));
  const auto change = [&](std::int64_t context) { return steps_to_owner_change(32, 1, work(context)); };
  CHECK(change(4096).steps == 33);
  CHECK(change(131072).steps == 10);
  CHECK(change(1 << 20).steps == 2);
  for (const std::int64_t context : {4096, 131072, 1 << 20, 1 << 23}) {
    const OwnerChange c = change(context);
    CHECK(c.first_turn + c.steps == 33);
    CHECK(c.first_compared + 2 == c.steps);  // token 31 on one rank, token 32 on the next
  }
  CHECK(steps_to_owner_change(4, 1, work(131072)).steps == 5);

  CHECK(requests_to_follow(work(131072), 1) == 2);
  CHECK(requests_to_follow(work(1 << 20), 1) == 1);
  CHECK(requests_to_follow(work(1 << 20), 2) == 2);
}

TEST_CASE("the work of verification counts a window's tokens") {
  ModelSpec model = load_model("gpt-oss-120b");
  const auto work = [&](std::int64_t layer) {
    return reference::attention_work({.model = model, .layers = {layer}, .context = 100'000});
  };
  CHECK(work(0) == 128.0 * 64 * (64 + 64));
  CHECK(work(1) == 100'000.0 * 64 * (64 + 64));
}
