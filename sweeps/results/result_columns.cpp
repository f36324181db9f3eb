#include "sweeps/results/result_columns.hpp"

#include <fmt/format.h>

#include <array>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "sweeps/results/column_kinds.hpp"

namespace helix {
namespace {

using namespace columns;

/// While it is read: its tokens/s are the prediction's.
bool is_predicted(const ResultRow& row) {
  return !row.measurement && row.status != Status::one_rank;
}

double predicted_comm_us(const Prediction& p) {
  return p.phases[Phase::a2a] + p.phases[Phase::attn_allreduce] + p.phases[Phase::ffn_comm];
}

constexpr std::string_view one_rank_of = "one rank of ";

constexpr auto all_columns = std::to_array<Column>({
    text_column<&ResultRow::id>("id"),
    {"status",
     [](const ResultRow& row) {
       return row.status == Status::one_rank ? fmt::format("{}{}", one_rank_of, row.config.sharding.ranks())
                                             : std::string(name(row.status));
     },
     [](ResultRow& row, const std::string& text) {
       row.status = text.starts_with(one_rank_of) ? Status::one_rank : parse_status(text);
     }},
    text_column<&ResultRow::reason>("reason"),
    {"strategy", [](const ResultRow& row) { return std::string(name(row.config.strategy)); },
     [](ResultRow& row, const std::string& text) { row.config.strategy = parse_strategy(text); }},
    {"model", [](const ResultRow& row) { return row.config.model; },
     [](ResultRow& row, const std::string& text) { row.config.model = text; }},
    text_column<&ResultRow::system>("system"),
    text_column<&ResultRow::backend>("backend"),
    text_column<&ResultRow::kernel>("kernel"),
    derived_column("ranks",
                   [](const ResultRow& row) { return fmt::format("{}", row.config.sharding.ranks()); }),
    width_column<&Sharding::kvp>("kvp"),
    width_column<&Sharding::tpa>("tpa"),
    width_column<&Sharding::tpf>("tpf"),
    width_column<&Sharding::ep>("ep"),
    width_column<&Sharding::pp>("pp"),
    width_column<&Sharding::dp>("dp"),
    shape_column<&DecodeShape::context>("context"),
    shape_column<&DecodeShape::batch>("batch"),
    shape_column<&DecodeShape::hop_b>("hop_b"),
    shape_column<&DecodeShape::tokens_per_block>("tokens_per_block"),
    dtype_column<&DecodeShape::weight_dtype>("weight_dtype"),
    dtype_column<&DecodeShape::kv_dtype>("kv_dtype"),
    {"precision", [](const ResultRow& row) { return row.config.precision; },
     [](ResultRow& row, const std::string& text) { row.config.precision = text; }},
    {"precision_source", [](const ResultRow& row) { return row.config.precision_source; },
     [](ResultRow& row, const std::string& text) { row.config.precision_source = text; }},
    count_column<&ResultRow::layers_measured>("layers_measured"),
    count_column<&ResultRow::layers_total>("layers_total"),
    {"samples",
     [](const ResultRow& row) {
       return of_sampled(row, [](const Measurement& m) { return fmt::format("{}", m.samples); });
     },
     [](ResultRow& row, const std::string& text) {
       engaged_sampled(row).samples = parse_number<std::size_t>(text);
     }},
    measured_column<&Measurement::ttl_us>("ttl_us"),
    measured_column<&Measurement::ttl_p90_us>("ttl_p90_us"),
    measured_column<&Measurement::ttl_p99_us>("ttl_p99_us"),
    measured_column<&Measurement::ttl_min_us>("ttl_min_us"),
    {"ttl_rel_stderr",
     [](const ResultRow& row) {
       return of_sampled(row, [](const Measurement& m) { return number(m.ttl_rel_stderr); });
     },
     [](ResultRow& row, const std::string& text) {
       engaged_sampled(row).ttl_rel_stderr = parse_number<double>(text);
     }},
    {"tokens_per_s_user",
     [](const ResultRow& row) { return tokens_per_s_user(row) > 0 ? number(tokens_per_s_user(row)) : ""; },
     [](ResultRow& row, const std::string& text) {
       if (is_predicted(row)) engaged(row.prediction).tokens_per_s_user = parse_number<double>(text);
     }},
    {"tokens_per_s_gpu",
     [](const ResultRow& row) { return tokens_per_s_gpu(row) > 0 ? number(tokens_per_s_gpu(row)) : ""; },
     [](ResultRow& row, const std::string& text) {
       if (is_predicted(row)) engaged(row.prediction).tokens_per_s_gpu = parse_number<double>(text);
     }},
    predicted_column<&Prediction::roofline_ttl_us>("roofline_ttl_us"),
    predicted_column<&Prediction::model_ttl_us>("model_ttl_us"),
    derived_column("roofline_fraction",
                   [](const ResultRow& row) {
                     return row.prediction && row.measurement
                                ? number(row.prediction->roofline_ttl_us / row.measurement->ttl_us)
                                : "";
                   }),
    derived_column("model_error",
                   [](const ResultRow& row) {
                     return row.prediction && row.measurement
                                ? number(row.prediction->model_ttl_us / row.measurement->ttl_us - 1.0)
                                : "";
                   }),
    {"bound",
     [](const ResultRow& row) { return row.prediction ? std::string(name(row.prediction->bound)) : ""; },
     [](ResultRow& row, const std::string& text) {
       engaged(row.prediction).bound = parse_name(
           std::array{Bound::dram, Bound::compute, Bound::kernel, Bound::latency, Bound::comm}, text);
     }},
    measured_phase_column<Phase::attn>("attn_us"),
    measured_phase_column<Phase::a2a>("a2a_us"),
    measured_phase_column<Phase::merge>("merge_us"),
    measured_phase_column<Phase::attn_proj>("attn_proj_us"),
    measured_phase_column<Phase::attn_allreduce>("attn_allreduce_us"),
    measured_phase_column<Phase::ffn>("ffn_us"),
    measured_phase_column<Phase::ffn_comm>("ffn_comm_us"),
    measured_phase_column<Phase::head>("head_us"),
    {"exposed_comm_us",
     [](const ResultRow& row) {
       if (row.measurement) return number(row.measurement->exposed_comm_us);
       return row.prediction ? number(row.prediction->exposed_comm_us) : std::string{};
     },
     [](ResultRow& row, const std::string& text) {
       const double value = parse_number<double>(text);
       (row.measurement ? row.measurement->exposed_comm_us : engaged(row.prediction).exposed_comm_us) = value;
     }},
    predicted_phase_column<Phase::attn>("model_attn_us"),
    predicted_phase_column<Phase::a2a>("model_a2a_us"),
    predicted_phase_column<Phase::ffn>("model_ffn_us"),
    {"model_comm_us",
     [](const ResultRow& row) -> std::string {
       return row.prediction ? number(predicted_comm_us(*row.prediction)) : "";
     },
     [](ResultRow& row, const std::string& text) {
       // The file has only the sum of what is not the all-to-all.
       PhaseTimes& t = engaged(row.prediction).phases;
       t[Phase::attn_allreduce] = parse_number<double>(text) - t[Phase::a2a];
     }},
    predicted_column<&Prediction::kv_bytes_per_rank, whole>("kv_bytes_per_rank"),
    predicted_column<&Prediction::weight_bytes_per_rank, whole>("weight_bytes_per_rank"),
    predicted_column<&Prediction::comm_bytes_per_rank, whole>("comm_bytes_per_rank"),
    predicted_column<&Prediction::memory_bytes_per_rank, whole>("memory_bytes_per_rank"),
    {"max_batch",
     [](const ResultRow& row) { return row.prediction ? fmt::format("{}", row.prediction->max_batch) : ""; },
     [](ResultRow& row, const std::string& text) {
       engaged(row.prediction).max_batch = parse_number<std::int64_t>(text);
     }},
    {"verify_rel_error",
     [](const ResultRow& row) { return row.verify_rel_error ? number(*row.verify_rel_error) : ""; },
     [](ResultRow& row, const std::string& text) { row.verify_rel_error = parse_number<double>(text); }},
    {"pareto",
     [](const ResultRow& row) { return row.status == Status::ok ? (row.pareto ? "1" : "0") : std::string{}; },
     [](ResultRow& row, const std::string& text) { row.pareto = text == "1"; }},
    // Beyond the stable columns.
    {"stop_reason",
     [](const ResultRow& row) {
       return of_sampled(row, [](const Measurement& m) { return std::string(name(m.stop)); });
     },
     [](ResultRow& row, const std::string& text) {
       engaged_sampled(row).stop =
           parse_name(std::array{StopReason::converged, StopReason::plateau, StopReason::max_time}, text);
     }},
    // Shares of model_ttl_us, which add up to 1; comm is model_comm_us.
    derived_column("model_attn_share",
                   [](const ResultRow& row) {
                     return row.prediction ? share(row.prediction->phases[Phase::attn], *row.prediction) : "";
                   }),
    predicted_share_column<Phase::merge>("model_merge_share"),
    predicted_share_column<Phase::attn_proj>("model_attn_proj_share"),
    derived_column("model_ffn_share",
                   [](const ResultRow& row) {
                     return row.prediction ? share(row.prediction->phases[Phase::ffn], *row.prediction) : "";
                   }),
    derived_column("model_comm_share",
                   [](const ResultRow& row) {
                     return row.prediction ? share(predicted_comm_us(*row.prediction), *row.prediction) : "";
                   }),
    predicted_share_column<Phase::head>("model_head_share"),
    {"kv_tokens_per_rank",
     [](const ResultRow& row) {
       return row.prediction ? fmt::format("{}", row.prediction->kv_tokens_per_rank) : "";
     },
     [](ResultRow& row, const std::string& text) {
       engaged(row.prediction).kv_tokens_per_rank = parse_number<std::int64_t>(text);
     }},
    predicted_column<&Prediction::kv_duplication>("kv_duplication"),
    {"meets_budget",
     [](const ResultRow& row) -> std::string {
       return row.meets_budget ? (*row.meets_budget ? "1" : "0") : "";
     },
     [](ResultRow& row, const std::string& text) { row.meets_budget = text == "1"; }},
    predicted_column<&Prediction::memory_capacity_bytes, whole>("memory_capacity_bytes"),
    predicted_column<&Prediction::memory_fraction>("memory_fraction"),
    {"max_context",
     [](const ResultRow& row) {
       return row.prediction ? fmt::format("{}", row.prediction->max_context) : "";
     },
     [](ResultRow& row, const std::string& text) {
       engaged(row.prediction).max_context = parse_number<std::int64_t>(text);
     }},
    {"engine",
     [](const ResultRow& row) { return row.prediction ? std::string(name(row.prediction->engine)) : ""; },
     [](ResultRow& row, const std::string& text) { engaged(row.prediction).engine = parse_engine(text); }},
    {"dcp",
     [](const ResultRow& row) -> std::string {
       return traits(row.config.strategy).cuts_group ? to_string(row.config.shape.exchange) : "";
     },
     [](ResultRow& row, const std::string& text) { row.config.shape.exchange = parse_cache_exchange(text); }},
    optional_column<&ResultRow::usd_per_mtok>("usd_per_mtok"),
    optional_column<&ResultRow::joules_per_token>("joules_per_token"),
    // Percent: nine of ten measured kernels of the least known family in the step lie within it.
    {"confidence",
     [](const ResultRow& row) -> std::string {
       if (!row.prediction || row.prediction->trust.error_percent <= 0) return "";
       return number(row.prediction->trust.error_percent);
     },
     [](ResultRow& row, const std::string& text) {
       engaged(row.prediction).trust.error_percent = parse_number<double>(text);
     }},
    {"extrapolated",
     [](const ResultRow& row) -> std::string {
       return row.prediction ? to_string(row.prediction->trust.extrapolated) : "";
     },
     [](ResultRow& row, const std::string& text) {
       engaged(row.prediction).trust.extrapolated = parse_extrapolated(text);
     }},
    figure_column<&ModelFigures::active_parameters>("active_parameters"),
    figure_column<&ModelFigures::kv_bytes_per_token>("kv_bytes_per_token"),
    figure_column<&ModelFigures::kv_read_bytes_per_token>("kv_read_bytes_per_token"),
    figure_column<&ModelFigures::state_bytes_per_request>("state_bytes_per_request"),
    // The rest are activations and buffers.
    memory_share_column<&Prediction::weights_held_bytes_per_rank>("memory_weights_share"),
    memory_share_column<&Prediction::kv_held_bytes_per_rank>("memory_kv_share"),
    memory_share_column<&Prediction::state_bytes_per_rank>("memory_state_share"),
    {"measured_watts",
     [](const ResultRow& row) {
       return of_sampled(row,
                         [](const Measurement& m) { return m.device_watts ? number(*m.device_watts) : ""; });
     },
     [](ResultRow& row, const std::string& text) {
       engaged_sampled(row).device_watts = parse_number<double>(text);
     }},
    {"draft_tokens", [](const ResultRow& row) { return fmt::format("{}", row.config.shape.draft_tokens); },
     [](ResultRow& row, const std::string& text) {
       row.config.shape.draft_tokens = parse_number<int>(text);
       row.config.shape.acceptance =
           row.config.shape.draft_tokens > 0 ? 0 : 1;  // unless the next column says
     }},
    {"acceptance",
     [](const ResultRow& row) {
       return row.config.shape.acceptance > 0 ? number(row.config.shape.acceptance) : "";
     },
     [](ResultRow& row, const std::string& text) {
       row.config.shape.acceptance = parse_number<double>(text);
     }},
    derived_column("tokens_per_step",
                   [](const ResultRow& row) {
                     const DecodeShape& shape = row.config.shape;
                     return shape.acceptance > 0 ? number(shape.acceptance * real(shape.batch)) : "";
                   }),
    {"rank_compute_us",
     [](const ResultRow& row) { return row.share ? number(row.share->compute.ttl_us) : ""; },
     [](ResultRow& row, const std::string& text) {
       engaged(row.share).compute.ttl_us = parse_number<double>(text);
     }},
    share_column<&RankShare::exchange_us>("predicted_exchange_us"),
    derived_column("ttl_composed_us",
                   [](const ResultRow& row) { return row.share ? number(row.share->composed_us()) : ""; }),
    shape_column<&DecodeShape::redundant_experts>("redundant_experts"),
    {"draft_kv",
     [](const ResultRow& row) {
       const bool shared = row.config.shape.draft_tokens > 0 && row.config.sharding.kvp > 1;
       return std::string(shared ? name(row.config.shape.draft_kv) : "");
     },
     [](ResultRow& row, const std::string& text) { row.config.shape.draft_kv = parse_draft_kv(text); }},
    {"draft_model", [](const ResultRow& row) { return row.config.draft_head; },
     [](ResultRow& row, const std::string& text) { row.config.draft_head = text; }},
    {"kernels", [](const ResultRow& row) { return std::string(name(row.config.shape.kernels)); },
     [](ResultRow& row, const std::string& text) { row.config.shape.kernels = parse_kernel_maker(text); }},
});

}  // namespace

CsvRecord result_header() {
  CsvRecord header;
  for (const Column& column : all_columns) header.emplace_back(column.name);
  return header;
}

CsvRecord to_record(const ResultRow& row) {
  CsvRecord record;
  for (const Column& column : all_columns) record.push_back(column.write(row));
  return record;
}

ResultRow from_record(const CsvRecord& record) {
  if (record.size() != all_columns.size()) {
    throw UsageError(fmt::format("a row has {} columns instead of {}", record.size(), all_columns.size()));
  }
  ResultRow row;
  for (std::size_t i = 0; i < all_columns.size(); ++i) {
    if (record[i].empty()) continue;
    try {
      all_columns[i].read(row, record[i]);
    } catch (const UsageError& error) {
      throw UsageError(
          fmt::format("row '{}', column {}: {}", excerpt(record.front()), all_columns[i].name, error.what()));
    }
  }
  row.config.layers = row.layers_measured == row.layers_total ? 0 : row.layers_measured;
  return row;
}

double tokens_per_s_user(const ResultRow& row) {
  if (row.measurement) return row.config.shape.acceptance * 1e6 / row.measurement->ttl_us;
  if (row.share) return row.config.shape.acceptance * 1e6 / row.share->composed_us();
  return row.prediction ? row.prediction->tokens_per_s_user : 0.0;
}

double tokens_per_s_gpu(const ResultRow& row) {
  if (row.measurement || row.share) {
    return tokens_per_s_user(row) * static_cast<double>(row.config.shape.batch) / row.config.sharding.ranks();
  }
  return row.prediction ? row.prediction->tokens_per_s_gpu : 0.0;
}

std::string_view name(StopReason reason) {
  switch (reason) {
    case StopReason::converged:
      return "converged";
    case StopReason::plateau:
      return "plateau";
    case StopReason::max_time:
      return "max_time";
  }
  return "?";
}

}  // namespace helix
