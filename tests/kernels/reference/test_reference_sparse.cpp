#include <catch2/catch.hpp>

#include "kernels/reference/reference_model.hpp"
#include "kernels/reference/selection.hpp"
#include "roofline/model/model_spec.hpp"

using namespace helix;
using namespace helix::reference;

TEST_CASE("sparse attention over no more tokens than it picks is attention over all, bit for bit") {
  const ModelSpec sparse = load_model("tiny-dsa");
  ModelSpec dense = sparse;
  dense.attention.indexer = {};
  const auto logits = [](const ModelSpec& model, std::int64_t context) {
    ReferenceRequest request({.model = model, .seed = 4, .layers = {0, 1}, .context = context}, 1);
    request.step(3);
    return request.step(8).logits;
  };
  const std::int64_t most = sparse.attention.indexer.top_k;
  CHECK(logits(sparse, most - 2) == logits(dense, most - 2));
  CHECK(logits(sparse, most - 1) != logits(dense, most - 1));
}

TEST_CASE("tokens are chosen by their scores, of equal ones the lower token") {
  const Vector scores{1.0, 3.0, 2.0, 2.0, -1.0, 2.0};
  CHECK(select_tokens(scores, 3, {}, 0.1).attended ==
        std::vector<bool>{false, true, true, true, false, false});
  CHECK(select_tokens(scores, 9, {}, 0.1).attended == std::vector<bool>(6, true));
}

TEST_CASE("a given choice of tokens is followed if it is the same up to rounding") {
  Vector scores;  // deviation close to 1
  for (int t = 0; t < 40; ++t) scores.push_back(t % 2 == 0 ? 1.0 + 0.001 * t : -1.0);
  const std::vector<bool> own = select_tokens(scores, 19, {}, 0.1).attended;
  CHECK(!own[0]);
  std::vector<bool> near = own;  // 0 instead of 38: 0.038 below
  near[0] = true;
  near[38] = false;
  const Selection followed = select_tokens(scores, 19, near, 0.1);
  CHECK(followed.problem == "");
  CHECK(followed.attended == near);
  const Selection refused = select_tokens(scores, 19, near, 0.01);
  CHECK(refused.problem == "token 0 scores 1, but 38 with 1.038 is left out");
  CHECK(refused.attended == own);

  std::vector<bool> fewer = own;
  fewer[38] = false;
  CHECK(select_tokens(scores, 19, fewer, 0.1).problem == "18 tokens chosen, not 19");
  CHECK(select_tokens(scores, 19, std::vector<bool>(39, true), 0.1).problem ==
        "a choice of 39 tokens, not 40");
}

TEST_CASE("a step follows a given choice of tokens and says where it cannot be") {
  const ModelSpec model = load_model("tiny-dsa");
  const std::int64_t context = 150;
  const ReferenceSetup setup{.model = model, .seed = 4, .layers = {0, 1}, .context = context};
  const auto step = [&](const std::vector<bool>& tokens) {
    const std::vector<LayerChoice> choices{{}, {.experts = {}, .tokens = tokens}};
    return ReferenceRequest(setup, 0).step(3, choices);
  };
  std::vector<bool> first(static_cast<std::size_t>(context + 1), false);
  std::fill_n(first.begin(), model.attention.indexer.top_k, true);
  const ReferenceStep own = step({}), refused = step(first);
  CHECK(own.choice_problem == "");
  CHECK(refused.choice_problem.starts_with("layer 1: token "));
  CHECK(refused.logits == own.logits);
}
