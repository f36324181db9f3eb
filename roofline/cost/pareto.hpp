// The Pareto frontier of tokens/s/user (interactivity) against tokens/s/GPU (cost).
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <vector>

namespace helix {

struct ParetoPoint {
  double tokens_per_s_user = 0;
  double tokens_per_s_gpu = 0;
};

/// The frontier of a stream of points, O(log n) amortised each: only points that no other one beats or equals
/// in both figures are kept. Of equal points the first stays.
class ParetoFrontier {
 public:
  /// True if the point joins the frontier (which may push others off). NaN never does.
  bool insert(ParetoPoint point, std::size_t id);
  /// Ids by falling tokens/s/user.
  std::vector<std::size_t> ids() const;
  std::size_t size() const { return by_user_.size(); }

 private:
  struct Entry {
    double tokens_per_s_gpu;
    std::size_t id;
  };
  std::map<double, Entry> by_user_;  // tokens/s/GPU falls as tokens/s/user rises
};

/// Indices of the frontier points, by falling tokens/s/user. O(n log n).
std::vector<std::size_t> pareto_front(std::span<const ParetoPoint> points);

}  // namespace helix
