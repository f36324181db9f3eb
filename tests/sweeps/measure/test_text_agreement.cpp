#include <catch2/catch.hpp>

#include "sweeps/measure/text_agreement.hpp"

using namespace helix;
using Catch::Matchers::Contains;

namespace {

/// Of a text of 65 tokens 0: logits of 4 tokens, that of the right one raised by half and one and a half times `mean`.
template <class T>
std::vector<T> raised_by(double mean) {
  std::vector<T> logits;
  for (int position = 0; position < 65; ++position) {
    logits.push_back(static_cast<T>(mean * (position % 2 == 0 ? 0.5 : 1.5)));
    logits.insert(logits.end(), 3, T{0});
  }
  return logits;
}

}  // namespace

TEST_CASE("a perplexity may be shifted as rounding shifts it, and by four standard errors more") {
  TextTruth truth;
  truth.tokens.assign(65, 0);
  truth.exact = raised_by<double>(0.0);
  truth.rounded = raised_by<double>(0.01);
  for (const double same : {0.01, -0.01, 0.013})
    CHECK(judge_text(truth, raised_by<float>(same)).failure.empty());
  CHECK_THAT(judge_text(truth, raised_by<float>(0.019)).failure, Contains("perplexity"));
}
