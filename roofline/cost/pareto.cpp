#include "roofline/cost/pareto.hpp"

#include <cmath>
#include <iterator>

namespace helix {

bool ParetoFrontier::insert(ParetoPoint p, std::size_t id) {
  if (std::isnan(p.tokens_per_s_user) || std::isnan(p.tokens_per_s_gpu)) return false;
  // The entry at or above this user speed has the largest GPU figure of all that are at least as fast.
  auto at = by_user_.lower_bound(p.tokens_per_s_user);
  if (at != by_user_.end() && at->second.tokens_per_s_gpu >= p.tokens_per_s_gpu) return false;
  while (at != by_user_.begin() && std::prev(at)->second.tokens_per_s_gpu <= p.tokens_per_s_gpu) {
    by_user_.erase(std::prev(at));
  }
  by_user_[p.tokens_per_s_user] = {p.tokens_per_s_gpu, id};
  return true;
}

std::vector<std::size_t> ParetoFrontier::ids() const {
  std::vector<std::size_t> out;
  out.reserve(by_user_.size());
  for (auto it = by_user_.rbegin(); it != by_user_.rend(); ++it) out.push_back(it->second.id);
  return out;
}

std::vector<std::size_t> pareto_front(std::span<const ParetoPoint> points) {
  ParetoFrontier frontier;
  for (std::size_t i = 0; i < points.size(); ++i) frontier.insert(points[i], i);
  return frontier.ids();
}

}  // namespace helix
