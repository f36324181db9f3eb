#include "roofline/step/baseline.hpp"

namespace helix {

Strategy counted_as(Strategy strategy, const Sharding& s) {
  if (strategy != Strategy::helix || s.kvp > 1) return strategy;
  if (s.dp == 1) return s.pp > 1 ? Strategy::tp_pp : Strategy::tp;
  return attends_whole_requests(s) && s.pp == 1 ? Strategy::dp_ep : strategy;
}

}  // namespace helix
