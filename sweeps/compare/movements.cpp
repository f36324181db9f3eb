#include "sweeps/compare/movements.hpp"

#include "sweeps/compare/holm.hpp"
#include "sweeps/compare/student_t.hpp"

namespace helix {

void set_p_values(std::vector<Movement>& movements, const std::vector<Statistic>& statistics) {
  std::vector<double> slower, faster;
  for (const Statistic& s : statistics) {
    slower.push_back(student_t_tail(s.t, s.freedom));
    faster.push_back(student_t_tail(-s.t, s.freedom));
  }
  slower = holm_adjusted(slower);
  faster = holm_adjusted(faster);
  for (std::size_t i = 0; i < movements.size(); ++i) {
    movements[i].p_slower = slower[i];
    movements[i].p_faster = faster[i];
  }
}

}  // namespace helix
