#include "sweeps/output/row_line.hpp"

#include <fmt/format.h>

namespace helix {

std::string row_line(const ResultRow& row) {
  if (row.share) {
    const RankShare& share = *row.share;
    return fmt::format(
        "{}  {:.3f} ms computed +- {:.1f} % of {} samples, {:.3f} ms of exchanges predicted; {}", row.id,
        share.compute.ttl_us / 1e3, 100.0 * share.compute.ttl_rel_stderr, share.compute.samples,
        share.exchange_us / 1e3, row.reason);
  }
  if (row.status != Status::ok || !row.measurement) {
    return fmt::format("{} {}: {}", name(row.status), row.id, row.reason);
  }
  const Measurement& m = *row.measurement;
  std::string line = fmt::format("{}  {:.3f} ms +- {:.1f} % of {} samples", row.id, m.ttl_us / 1e3,
                                 100.0 * m.ttl_rel_stderr, m.samples);
  if (row.prediction) {
    line += fmt::format(", model {:+.1f} %", 100.0 * (row.prediction->model_ttl_us / m.ttl_us - 1.0));
  }
  if (!row.reason.empty()) line += "; " + row.reason;
  return line;
}

}  // namespace helix
