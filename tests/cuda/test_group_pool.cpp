#include <catch2/catch.hpp>

#include "kernels/cuda/exchange/group_pool.hpp"

namespace helix::cuda {
namespace {

struct Link {
  int number;
};

TEST_CASE("links of a group are made once, and two of them where two are in use") {
  GroupPool<Link> pool;
  int made = 0;
  const auto make = [&] { return std::make_unique<Link>(++made); };
  auto first = pool.take({0, 1}, make), second = pool.take({0, 1}, make);
  CHECK(first->number == 1);
  CHECK(second->number == 2);
  pool.give_back({0, 1}, std::move(second));
  pool.give_back({0, 1}, std::move(first));
  CHECK(pool.take({1, 0}, make)->number == 3);  // the same ranks in another order
  CHECK(pool.take({0, 1, 2}, make)->number == 4);
  CHECK(pool.take({0, 1}, make)->number == 1);
  CHECK(pool.take({0, 1}, make)->number == 2);
  CHECK(made == 4);
}

TEST_CASE("ranks that take and give back in the same order meet the same links") {
  // Rank 0 belongs to more groups than rank 1; the links of the group of both must be those of
  // the same number.
  GroupPool<Link> of_rank0, of_rank1;
  int made0 = 0, made1 = 0, others = 100;
  for (int point = 0; point < 3; ++point) {
    auto other = of_rank0.take({0, 2}, [&] { return std::make_unique<Link>(++others); });
    auto stage0 = of_rank0.take({0, 1}, [&] { return std::make_unique<Link>(++made0); });
    auto stage1 = of_rank1.take({0, 1}, [&] { return std::make_unique<Link>(++made1); });
    auto kvp0 = of_rank0.take({0, 1}, [&] { return std::make_unique<Link>(++made0); });
    auto kvp1 = of_rank1.take({0, 1}, [&] { return std::make_unique<Link>(++made1); });
    CHECK(stage0->number == stage1->number);
    CHECK(kvp0->number == kvp1->number);
    CHECK(stage0->number != kvp0->number);
    of_rank0.give_back({0, 1}, std::move(kvp0));
    of_rank1.give_back({0, 1}, std::move(kvp1));
    of_rank0.give_back({0, 1}, std::move(stage0));
    of_rank1.give_back({0, 1}, std::move(stage1));
    of_rank0.give_back({0, 2}, std::move(other));
  }
  CHECK(made0 == 2);
  CHECK(made1 == 2);
  CHECK(others == 101);
}

}  // namespace
}  // namespace helix::cuda
