#include <algorithm>
#include <catch2/catch.hpp>

#include "mpi/rank.hpp"
#include "sweeps/machine/prober.hpp"

using namespace helix;

namespace {

/// How many rounds a rate takes that is measured as these values in turn, the last one from then on; one
/// sample a round. (The first value is only looked at for how long it takes.)
int rounds_of(int least, int most, const std::vector<double>& rates) {
  const auto backend = make_cpu_backend(1);
  Prober prober(*backend, MPI_COMM_WORLD, {.figure_us = 0, .least_rounds = least, .most_rounds = most});
  std::size_t measured = 0;
  prober.ceiling([&] { return rates[std::min(measured++, rates.size() - 1)]; });
  prober.measure();
  return static_cast<int>(measured) - 1;
}

}  // namespace

TEST_CASE("a ceiling is the tenth best of a hundred rounds, on the slowest rank") {
  const auto backend = make_cpu_backend(1);
  Prober prober(*backend, MPI_COMM_WORLD, {.figure_us = 0, .least_rounds = 101, .most_rounds = 101});
  int round = -1, rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const Figure& us = prober.ceiling([&] { return 1e6 / (100 + std::max(0, round++)) / (1 + rank); });
  const Figure& steady = prober.ceiling([&] { return 5e6; });
  prober.measure();
  CHECK(round == 101);
  CHECK(us.us == Approx(110 * world_size()));
  CHECK(us.spread > 0.5);
  CHECK(steady.us == Approx(0.2));
  CHECK(steady.spread == Approx(0).margin(1e-9));
}

TEST_CASE("rounds end when the figures are known, at the latest after as many as allowed") {
  CHECK(rounds_of(16, 40, {20}) == 16);
  CHECK(rounds_of(16, 3, {20}) == 3);
  CHECK(rounds_of(16, 40, {20, 20.1, 20, 20.1}) == 16);
  // Half as fast at first, which is all that the first stretch knows until there are rounds enough.
  const int disturbed = rounds_of(16, 400, {10, 10, 10, 10, 20});
  CHECK(disturbed > 16);
  CHECK(disturbed < 100);
  // Slower with each round: never known.
  std::vector<double> slowing;
  for (int i = 0; i < 40; ++i) slowing.push_back(100 - i);
  CHECK(rounds_of(16, 40, slowing) == 40);
}

TEST_CASE("a noisy figure is taken anew, and kept however noisy it stays") {
  const auto backend = make_cpu_backend(1);
  const auto measured = [&](const std::vector<double>& rates, int& calls) {
    Prober prober(*backend, MPI_COMM_WORLD, {.figure_us = 0, .least_rounds = 16, .most_rounds = 16});
    std::size_t next = 0;
    const Figure& steady = prober.ceiling([&] { return 1e6; });
    const Figure& figure = prober.ceiling([&] { return rates[std::min(next++, rates.size() - 1)]; });
    prober.measure();
    CHECK(steady.us == Approx(1));
    calls = static_cast<int>(next) - 1;
    return figure;
  };
  // Someone takes nine tenths of the machine for the second half of the rounds.
  std::vector<double> disturbed{100};
  for (int i = 0; i < 16; ++i) disturbed.push_back(i < 8 ? 100 : 10);
  int calls = 0;
  disturbed.push_back(50);  // from then on
  const Figure calm = measured(disturbed, calls);
  CHECK(calls == 32);
  CHECK(calm.us == Approx(2e4));
  CHECK_FALSE(calm.noisy());

  std::vector<double> always{100};
  for (int i = 0; i < 48; ++i) always.push_back(i % 16 < 8 ? 100 : 0.01);
  const Figure noisy = measured(always, calls);
  CHECK(calls == 48);
  CHECK(noisy.noisy());
  CHECK(noisy.spread > 1000);
  CHECK(noisy.us == Approx(1e4));
}

TEST_CASE("every rank makes the same calls, numbered on, and a collective among them is timed") {
  const auto backend = make_cpu_backend(1);
  Prober prober(*backend, MPI_COMM_WORLD, {.figure_us = 500, .least_rounds = 3, .most_rounds = 3});
  std::vector<std::int64_t> calls;
  const Figure& barrier = prober.time([&](std::int64_t i) {
    calls.push_back(i);
    MPI_Barrier(MPI_COMM_WORLD);
  });
  int shortest = 0;
  prober.time([&](std::int64_t) { ++shortest; });
  prober.measure();
  bool numbered = calls.size() > 3;
  for (std::size_t i = 0; i < calls.size(); ++i) numbered &= calls[i] == static_cast<std::int64_t>(i);
  CHECK(numbered);
  const auto count = static_cast<long>(calls.size());
  long least = 0, most = 0;
  MPI_Allreduce(&count, &least, 1, MPI_LONG, MPI_MIN, MPI_COMM_WORLD);
  MPI_Allreduce(&count, &most, 1, MPI_LONG, MPI_MAX, MPI_COMM_WORLD);
  CHECK(least == most);
  CHECK(barrier.us > 0);
  CHECK(shortest > 100);  // calls that the clock does not resolve share a reading of it
}
