// Collectives over NVLink and beyond.
#include <algorithm>
#include <cmath>
#include <limits>

#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/gpu_units.hpp"

namespace helix {

double library_collective_us(const SystemSpec& system, const CollectiveShape& s) {
  for (const GpuCollective& c : system.gpu->library_collectives) {
    if (c.op != s.op) continue;
    const double n = s.group, bytes = s.payload_bytes;
    const double steps = s.op == Collective::all_reduce ? 2 * (n - 1) : n - 1;
    const double sent = steps / n * bytes;
    const double latency = c.base_us + c.step_us * steps;
    if (bytes <= c.small_limit_bytes * n) {
      constexpr double first_octave_bytes = 4096;
      const double channel_us =
          c.channel_bytes > 0 ? std::min(bytes / n, c.channel_bytes) / c.channel_bytes_per_s * us_per_second
                              : 0;
      return latency + c.octave_us * std::log2(1 + bytes / first_octave_bytes) + channel_us +
             sent / c.small_bytes_per_s * us_per_second;
    }
    const double bytes_per_s = c.ring_efficiency * system.link.bytes_per_s * n / (n + c.ring_ranks_lost);
    const double ring = std::pow(std::pow(c.ring_base_us + c.ring_step_us * steps, c.norm) +
                                     std::pow(sent / bytes_per_s * us_per_second, c.norm),
                                 1 / c.norm);
    return std::max(latency, ring);
  }
  return std::numeric_limits<double>::infinity();
}

double one_shot_us(const SystemSpec& system, const CollectiveShape& s) {
  const GpuOneShot& g = system.gpu->one_shot;
  const double n = s.group, bytes = s.payload_bytes;
  const auto link_us = [&](double efficiency, double sent) {
    return sent / (efficiency * system.link.bytes_per_s) * us_per_second;
  };
  // All-reduce: the whole buffer to each peer; else a part of it to each.
  const double sent = s.op == Collective::all_reduce ? (n - 1) * bytes
                      : s.op == Collective::send     ? bytes
                                                     : (n - 1) / n * bytes;
  const double one = g.base_us + g.octave_us * std::log2(n) + link_us(g.efficiency, sent);
  if (s.op != Collective::all_reduce) return one;
  const double two =
      g.two_shot_base_us + g.two_shot_rank_us * n + link_us(g.two_shot_efficiency, 2 * (n - 1) / n * bytes);
  return std::min(one, two);
}

namespace {

/// Distinct ranks, or domains, of `groups` that `draws` random ones touch.
double touched(double groups, double draws) {
  return groups * (1 - std::pow(1 - 1 / groups, draws));
}

/// Copies of a token that leave its own part out of `parts`.
double copies_sent(GpuExpertExchange::Copies copies, double top_k, double parts) {
  const double all = copies == GpuExpertExchange::Copies::each_expert ? top_k : touched(parts, top_k);
  return all * (parts - 1) / parts;
}

struct Priced {
  double us = std::numeric_limits<double>::infinity();
  double error_percent = 0;
  void take(double other_us, double other_error_percent) {
    if (other_us < us) *this = {other_us, other_error_percent};
  }
};

Priced inside_domain(const SystemSpec& system, const CollectiveShape& s) {
  Priced best;
  if (s.group <= 1) return {.us = 0};
  for (const GpuExpertExchange& e : system.gpu->expert_exchanges) {
    if (s.routed.tokens == 0 || !e.in_steps) continue;
    const auto& phase = s.routed.combine ? e.combine : e.dispatch;
    best.take(expert_exchange_us(system, e, s), phase.error_percent);
  }
  if (!std::isinf(best.us)) return best;
  for (const GpuCollective& c : system.gpu->library_collectives) {
    if (c.op == s.op) best.take(library_collective_us(system, s), c.error_percent);
  }
  // The library has no kernel of its own for a single message.
  const bool own_kernels =
      !engine_overhead(system).library_exchanges || s.op == Collective::all_reduce || std::isinf(best.us);
  if (own_kernels) best.take(one_shot_us(system, s), system.gpu->one_shot.error_percent);
  return best;
}

/// Bytes that each rank sends to other domains.
double crossing_bytes(const CollectiveShape& s, double domains, double group_inside) {
  const double others = (domains - 1) / domains;
  if (s.routed.tokens > 0) {
    // A copy for each domain; its ranks pass it on.
    return static_cast<double>(s.routed.tokens * s.routed.hidden) * s.routed.bytes_per_value *
           copies_sent(GpuExpertExchange::Copies::each_rank, static_cast<double>(s.routed.top_k), domains);
  }
  // Reduced or gathered parts cross once per domain rank; all_to_all pieces cross as they are.
  if (s.op == Collective::all_reduce) return 2 * others * s.payload_bytes / group_inside;
  if (s.op == Collective::all_to_all || s.op == Collective::send) return others * s.payload_bytes;
  return others * s.payload_bytes / group_inside;
}

}  // namespace

double expert_exchange_us(const SystemSpec& system, const GpuExpertExchange& e, const CollectiveShape& s) {
  const auto& phase = s.routed.combine ? e.combine : e.dispatch;
  const auto& r = s.routed;
  const double bytes = static_cast<double>(r.tokens * r.hidden) * r.bytes_per_value *
                       copies_sent(e.copies, static_cast<double>(r.top_k), s.group);
  const double wire_us = bytes / (phase.efficiency * system.link.bytes_per_s) * us_per_second;
  return std::pow(std::pow(phase.base_us, phase.norm) + std::pow(wire_us, phase.norm), 1 / phase.norm) +
         phase.hidden_us * static_cast<double>(r.hidden) / 1024;
}

OpTime gpu_collective_time(const SystemSpec& system, const CollectiveShape& s) {
  CollectiveShape inside = s;
  inside.group = std::min(s.group, static_cast<int>(system.link.domain));
  const Priced priced = inside_domain(system, inside);
  if (s.grouped_on_gpu) {
    const double us = s.payload_bytes / system.link.bytes_per_s * us_per_second;
    return {.comm_us = us, .total_us = us, .trust = fitted_within(system, priced.error_percent)};
  }
  double total = priced.us + engine_overhead(system).collective_us;
  Trust trust = fitted_within(system, priced.error_percent);
  trust.extrapolated.group = s.group > system.gpu->fitted.ranks || s.group > inside.group;
  trust.extrapolated.shape = beyond(system.gpu->fitted.rows, s.routed.tokens);
  if (s.group > inside.group) {
    const double domains = whole(s.group, system.link.domain);
    total += system.link.beyond_latency_us * std::ceil(std::log2(domains)) +
             crossing_bytes(s, domains, inside.group) / system.link.beyond_bytes_per_s * us_per_second;
  }
  return {.comm_us = total, .total_us = total, .trust = trust};
}

}  // namespace helix
