// Links between ranks, kept from one point of a sweep to the next: making one takes seconds. The ranks of a
// group ask for its links and give them back in the same order, so either all of them find an idle one or
// none does.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace helix::cuda {

template <class Link>
class GroupPool {
 public:
  /// The ranks of a group in their order, as numbers in the world.
  using Members = std::vector<int>;

  /// An idle link of these ranks, the last that was given back, or a new one. Two links of one group may be
  /// in use.
  template <class Make>
  std::unique_ptr<Link> take(const Members& members, const Make& make) {
    std::vector<std::unique_ptr<Link>>& idle = idle_[members];
    if (idle.empty()) return make();
    std::unique_ptr<Link> link = std::move(idle.back());
    idle.pop_back();
    return link;
  }
  void give_back(const Members& members, std::unique_ptr<Link> link) {
    idle_[members].push_back(std::move(link));
  }

 private:
  std::map<Members, std::vector<std::unique_ptr<Link>>>
      idle_;  // ended in the order of the members on every rank
};

}  // namespace helix::cuda
