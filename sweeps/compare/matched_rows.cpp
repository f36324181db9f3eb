#include "sweeps/compare/matched_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "roofline/base/error.hpp"

namespace helix {

std::optional<Status> SideRow::status() const {
  for (const Status status : {Status::wrong, Status::failed, Status::skipped}) {
    if (find(status)) return status;
  }
  if (of_run.empty() || of_run.size() != runs) return std::nullopt;
  return find(Status::one_rank) ? Status::one_rank : Status::ok;
}

const StoredRow* SideRow::find(Status status) const {
  const auto found = std::ranges::find(of_run, status, &StoredRow::status);
  return found == of_run.end() ? nullptr : *found;
}

std::size_t SideRow::samples() const {
  std::size_t count = 0;
  for (const StoredRow* row : of_run) count += row->samples_us.size();
  return count;
}

std::vector<MatchedRow> match_rows(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head) {
  std::vector<MatchedRow> pairs;
  std::map<std::string, std::size_t> where;
  const auto add = [&](const std::vector<StoredRun>& side, SideRow MatchedRow::*member) {
    for (const StoredRun& run : side) {
      for (const StoredRow& row : run.rows) {
        const auto [entry, is_new] = where.try_emplace(row.id, pairs.size());
        if (is_new) pairs.push_back({row.id, {{}, base.size()}, {{}, head.size()}});
        (pairs[entry->second].*member).of_run.push_back(&row);
      }
    }
  };
  add(base, &MatchedRow::base);
  add(head, &MatchedRow::head);
  return pairs;
}

void require_comparable(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head,
                        bool same_machine) {
  const StoredRun& first = base.front();
  for (const std::vector<StoredRun>* side : {&base, &head}) {
    for (const StoredRun& run : *side) {
      for (std::size_t i = 0; same_machine && i < first.machine.size(); ++i) {
        if (run.machine[i].value == first.machine[i].value) continue;
        throw UsageError(fmt::format(
            "not comparable: {} is '{}' in '{}' and '{}' in '{}'; valid: runs of one machine, or --force to "
            "compare roofline fractions",
            first.machine[i].name, first.machine[i].value, first.directory.string(), run.machine[i].value,
            run.directory.string()));
      }
    }
  }
  const auto names = [](const std::vector<StoredRun>& side, std::string StoredRow::*member) {
    std::set<std::string> found;
    for (const StoredRun& run : side) {
      for (const StoredRow& row : run.rows) found.insert(row.*member);
    }
    return found;
  };
  const auto disjoint = [](const std::set<std::string>& a, const std::set<std::string>& b) {
    return std::ranges::none_of(a, [&](const std::string& x) { return b.contains(x); });
  };
  const auto base_models = names(base, &StoredRow::model), head_models = names(head, &StoredRow::model);
  if (disjoint(base_models, head_models)) {
    throw UsageError(fmt::format("not comparable: BASE has the models {}, NEW has {}",
                                 fmt::join(base_models, ", "), fmt::join(head_models, ", ")));
  }
  if (disjoint(names(base, &StoredRow::id), names(head, &StoredRow::id))) {
    throw UsageError("not comparable: no configuration is in both BASE and NEW");
  }
}

}  // namespace helix
