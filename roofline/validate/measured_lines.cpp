// Inter-token latencies of one GPU as posts publish them: a line over the context, or one figure.
#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <vector>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/validate/measured_model.hpp"
#include "roofline/validate/verdict.hpp"

namespace helix {
namespace {

/// The token counts in "256..125K (linear fit)" or "20K in / 2K out"; K is 1024.
std::vector<double> token_counts(const std::string& text) {
  std::vector<double> counts;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    std::int32_t count = 0;
    const auto [rest, error] = std::from_chars(at, end, count);
    if (error != std::errc{} || count < 1) {
      ++at;
      continue;
    }
    at = rest;
    const bool thousands = at != end && std::toupper(static_cast<unsigned char>(*at)) == 'K';
    counts.push_back(count * (thousands ? 1024.0 : 1.0));
  }
  return counts;
}

struct Line {
  double intercept = 0, slope = 0;
};

/// Least squares through points at equal distances.
Line line_through(double first, double last, auto time_at) {
  constexpr int points = 9;
  const double middle = (first + last) / 2;
  double mean = 0, product = 0, square = 0;
  for (int i = 0; i < points; ++i) {
    const double x = first + (last - first) * i / (points - 1), y = time_at(x);
    mean += y / points;
    product += (x - middle) * y;
    square += (x - middle) * (x - middle);
  }
  const double slope = product / square;
  return {.intercept = mean - slope * middle, .slope = slope};
}

}  // namespace

Verdict judge_line(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& metric = row.text("metric");
  const std::string& name_in_file = row.text("model");
  const bool slope = metric == "itl slope", line = slope || metric == "itl intercept";
  if (!line && metric != "itl median") return LeftOut{"a metric of more than decoding: " + metric};
  if (row.count("gpus") != 1) return LeftOut{"several GPUs without their layout"};
  const ModelSpec* model = known_model(name_in_file);
  if (!model) return LeftOut{"a model that is not built in: " + name_in_file};

  SystemSpec served_on = system;
  served_on.engine = measured_engine(row);
  DecodeShape shape{.batch = row.count("batch"), .kv_dtype = measured_storage(row, "kv_dtype")};
  take_measured_weights(row, *model, shape);
  const auto step_us = [&](double context) {
    shape.context = static_cast<std::int64_t>(context);
    return predict({*model, Sharding{}, shape}, served_on).model_ttl_us;
  };
  const std::vector<double> tokens = token_counts(row.text("context_tokens"));
  if (tokens.size() != 2 || (line && tokens[0] >= tokens[1])) {
    throw UsageError(
        fmt::format("{}: context_tokens = '{}'; valid: a range 256..125K, of an 'itl median' 20K in / 2K out",
                    row.where(), excerpt(row.text("context_tokens"))));
  }
  const std::string family = fmt::format("{}/{}/{}", name_in_file, row.text("system"), metric);
  const double measured_us = row.positive("value") * 1e3;
  if (!line) return Judged{family, step_us(tokens[0] + tokens[1] / 2), measured_us};
  const Line model_line = line_through(tokens[0], tokens[1], step_us);
  return Judged{family, slope ? model_line.slope : model_line.intercept, measured_us};
}

}  // namespace helix
