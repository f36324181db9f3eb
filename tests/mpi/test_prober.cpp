#include <catch2/catch.hpp>

#include "mpi/rank.hpp"
#include "sweeps/prober.hpp"

using namespace helix;

namespace {

/// What each round measures, in turn; the last value from then on.
struct Measured {
  std::vector<double> values;
  std::size_t round = 0;
  double next() { return values[std::min(round++, values.size() - 1)]; }
};

}  // namespace

TEST_CASE("figures are a quantile of the rounds, on the slowest rank; ceilings are the best round") {
  const auto backend = make_cpu_backend(1);
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  Prober prober(*backend, MPI_COMM_WORLD, {.least_rounds = 5, .most_rounds = 5, .quantile = 0.5});
  Measured time{{10, 50, 12, 11, 90}}, rate{{4, 5, 8, 2, 5}};
  double us = 0, ceiling = 0, spread = 0, spread_of_ceiling = 0;
  prober.rounds([&] {
    us = prober.us(time.next() + rank);
    spread = prober.take_spread();
    ceiling = prober.ceiling(rate.next() / (1 + rank));
    spread_of_ceiling = prober.take_spread();
  });
  CHECK(time.round == 5);
  CHECK(us == Approx(12 + size - 1));
  // Median of the last two against that of the first two, over the figure.
  CHECK(spread == Approx((50.5 - 30) / (12 + size - 1)));
  CHECK(ceiling == Approx(8.0 / size));
  CHECK(spread_of_ceiling == Approx(0).margin(1e-12));
}

TEST_CASE("rounds end when all figures have settled, at the latest after as many as allowed") {
  const auto backend = make_cpu_backend(1);
  const auto rounds_of = [&](const Measured& series) {
    Prober prober(*backend, MPI_COMM_WORLD, {.least_rounds = 4, .most_rounds = 10, .quantile = 0.1});
    Measured settled{{7}}, watched = series;
    prober.rounds([&] {
      prober.us(watched.next());
      prober.take_spread();
      prober.us(settled.next());
    });
    return watched.round;
  };
  CHECK(rounds_of({{20}}) == 4);
  CHECK(rounds_of({{20, 21, 20, 21}}) == 4);  // disturbed alike in both halves
  CHECK(rounds_of({{40, 40, 20}}) == 8);      // until the first half has seen the quiet machine, too
  CHECK(rounds_of({{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}}) == 10);
}
