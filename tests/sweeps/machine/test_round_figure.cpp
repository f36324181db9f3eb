#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>
#include <random>

#include "roofline/base/statistics.hpp"
#include "sweeps/machine/round_figure.hpp"

using namespace helix;

namespace {

using Rounds = std::vector<std::vector<double>>;

/// Calls of a millisecond on a shared machine, a round a second, as a virtual machine of two cores behaves:
/// its speed wanders by a few per cent within seconds; now and then a neighbour takes a good part of the
/// memory's bandwidth for some seconds; one call in eight is stretched by another program's time slice.
class SharedMachine {
 public:
  static constexpr double call_us = 1000;
  explicit SharedMachine(std::uint32_t seed) : random_(seed) {}

  Rounds calls(int rounds, int calls_of_round) {
    Rounds times;
    for (int round = 0; round < rounds; ++round) {
      wander_ = stays * wander_ + std::sqrt(1 - stays * stays) * 0.035 * normal();
      slow_ = slow_ > 1 ? (uniform() < 0.4 ? 1 : slow_) : (uniform() < 0.05 ? 1.3 + 0.7 * uniform() : 1);
      std::vector<double>& of_round = times.emplace_back();
      for (int call = 0; call < calls_of_round; ++call) {
        const double us = call_us * slow_ * std::exp(wander_ + 0.02 * normal());
        of_round.push_back(uniform() < 0.125 ? us + 4000 : us);
      }
    }
    return times;
  }

 private:
  static constexpr double stays = 0.7;  // correlation of neighbouring rounds
  double uniform() { return (static_cast<double>(random_()) + 0.5) / 4294967296.0; }
  double normal() {  // Box and Muller: the standard library's own differs between implementations
    return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * std::numbers::pi * uniform());
  }

  std::mt19937 random_;
  double wander_ = 0, slow_ = 1;
};

/// The share of pairs of measurings whose figures differ by at most 5 %.
template <typename Measuring>
double agreeing(const Measuring& us_of_run) {
  constexpr std::uint32_t pairs = 1000;
  int agree = 0;
  for (std::uint32_t pair = 0; pair < pairs; ++pair) {
    const double a = us_of_run(2 * pair), b = us_of_run(2 * pair + 1);
    if (std::abs(a / b - 1) <= 0.05) ++agree;
  }
  return static_cast<double>(agree) / pairs;
}

}  // namespace

TEST_CASE("a figure is a quantile of all times of all rounds, its spread that of consecutive stretches") {
  const Rounds one{{3, 1, 2}};
  CHECK(figure_of(one, 0.5).us == 2);
  CHECK(figure_of(one, 0).us == 1);
  CHECK(figure_of(one, 0.5).spread == 0);
  CHECK(figure_of(one, 0.5).rel_stderr == 0);
  // Two rounds are two stretches, with medians 2 and 5 about the median 3.5 of all six.
  const Figure two = figure_of(Rounds{{3, 1, 2}, {4, 5, 6}}, 0.5);
  CHECK(two.us == Approx(3.5));
  CHECK(two.spread == Approx(3 / 3.5));
  CHECK(two.rel_stderr == Approx(1.5 / 3.5));  // (5 - 2) / sqrt(2) / sqrt(2)
  // Sixteen rounds are eight stretches of two: a fast one among slow ones shows.
  Rounds many(16, {10});
  many[4] = many[5] = {5};
  CHECK(figure_of(many, 0.5).us == 10);
  CHECK(figure_of(many, 0.5).spread == Approx(0.5));
  CHECK(figure_of(many, 0.5).rel_stderr == Approx(0.0625));  // deviations 7 x 0.625 and -4.375 about 9.375
}

TEST_CASE("two measurings of one shared machine agree within 5 per cent") {
  const auto calibration = [](std::uint32_t seed) {
    return figure_of(SharedMachine(seed).calls(60, 12), 0.25).us;
  };
  CHECK(agreeing(calibration) >= 0.95);
  // The machine is a hard one: neither its best time nor the median of a few rounds does that.
  const auto best = [](std::uint32_t seed) { return figure_of(SharedMachine(seed).calls(60, 12), 0).us; };
  const auto brief = [](std::uint32_t seed) { return figure_of(SharedMachine(seed).calls(3, 12), 0.5).us; };
  CHECK(agreeing(best) < 0.95);
  CHECK(agreeing(brief) < 0.95);
}

TEST_CASE("slow states and time slices hardly move a figure; the standard error says what it is worth") {
  constexpr std::uint32_t runs = 400;
  std::vector<double> figures, errors;
  for (std::uint32_t run = 0; run < runs; ++run) {
    const Figure figure = figure_of(SharedMachine(run).calls(60, 12), 0.25);
    figures.push_back(figure.us);
    errors.push_back(figure.rel_stderr);
  }
  CHECK(median(figures) == Approx(SharedMachine::call_us).epsilon(0.03));
  double mean = 0, squares = 0;
  for (const double x : figures) mean += x / runs;
  for (const double x : figures) squares += (x / mean - 1) * (x / mean - 1);
  // Stretches are not quite independent, and slow ones widen it: within a factor of two.
  const double deviation = std::sqrt(squares / (runs - 1));
  CHECK(median(errors) > deviation / 2);
  CHECK(median(errors) < deviation * 2);
}
