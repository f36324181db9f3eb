#include "sweeps/measure/run_verify_text.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <tuple>
#include <utility>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/mpi_communicator.hpp"
#include "roofline/base/csv.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/backend_choice.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/launch/progress.hpp"
#include "sweeps/measure/engine_host.hpp"
#include "sweeps/measure/point_runner.hpp"
#include "sweeps/measure/text_agreement.hpp"
#include "sweeps/measure/text_points.hpp"

namespace helix {
namespace {

struct TextRow {
  std::string id;
  Status status = Status::skipped;
  std::string reason{};
  TextAgreement result;
};

/// Name and value of each figure, "" where nothing was decoded.
std::vector<std::pair<std::string, std::string>> figures(const TextRow& row) {
  const TextAgreement& r = row.result;
  const auto number = [&](double x) {
    return r.positions > 0 && std::isfinite(x) ? fmt::format("{:.6g}", x) : std::string();
  };
  return {{"positions", r.positions > 0 ? std::to_string(r.positions) : ""},
          {"same_top1", r.positions > 0 ? std::to_string(r.same_top1) : ""},
          {"near_ties", r.positions > 0 ? std::to_string(r.near_ties) : ""},
          {"rel_error", number(r.rel_error)},
          {"bf16_error", number(r.bf16_error)},
          {"worst_position", number(r.worst_position)},
          {"perplexity", number(r.perplexity)},
          {"reference_perplexity", number(r.exact_perplexity)},
          {"perplexity_noise", number(r.perplexity_noise)}};
}

nlohmann::ordered_json to_json(const TextRow& row) {
  nlohmann::ordered_json object{{"id", row.id}, {"status", name(row.status)}, {"reason", row.reason}};
  for (const auto& [name, value] : figures(row)) {
    if (!value.empty()) object[name] = nlohmann::json::parse(value);
  }
  return object;
}

CsvRecord csv_record(const TextRow& row, bool names) {
  CsvRecord record{names ? "id" : row.id, names ? "status" : std::string(name(row.status)),
                   names ? "reason" : row.reason};
  for (const auto& [name, value] : figures(row)) record.push_back(names ? name : value);
  return record;
}

void print(const std::vector<TextRow>& rows, OutputFormat format) {
  if (format == OutputFormat::json_lines) return;  // already printed, one by one
  const ActivityFlag printing(&Activity::unwatched);
  if (format == OutputFormat::json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const TextRow& row : rows) list.push_back(to_json(row));
    fmt::print("{}\n", list.dump(2));
    return;
  }
  if (format == OutputFormat::csv) {
    fmt::print("{}", csv_line(csv_record({}, true)));
    for (const TextRow& row : rows) fmt::print("{}", csv_line(csv_record(row, false)));
    return;
  }
  constexpr const char* line = "{:<64} {:>8} {:>9} {:>9} {:>11} {:>11} {:>9} {:>12} {:>12}  {}\n";
  fmt::print(fmt::runtime(line), "configuration", "status", "top-1", "near ties", "rel error", "bf16 costs",
             "worst", "perplexity", "reference's", "");
  for (const TextRow& row : rows) {
    std::map<std::string, std::string> values;
    for (const auto& [name, value] : figures(row)) values[name] = value;
    const std::string top1 = row.result.positions > 0 ? values["same_top1"] + "/" + values["positions"] : "";
    fmt::print(fmt::runtime(line), row.id, name(row.status), top1, values["near_ties"], values["rel_error"],
               values["bf16_error"], values["worst_position"], values["perplexity"],
               values["reference_perplexity"], row.reason);
  }
}

/// Where no text is given: tokens by the seed, which a model finds unlikely, but decodes as any.
std::vector<std::int32_t> random_text(const ModelSpec& model, std::uint64_t seed) {
  constexpr std::size_t tokens = 96;
  std::mt19937_64 random(seed);
  std::vector<std::int32_t> text(tokens);
  for (std::int32_t& token : text)
    token = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(model.vocab));
  return text;
}

/// From the last rank of the instance, which knows it, to all of them.
void share(TextAgreement& result, MPI_Comm instance, int owner) {
  for (std::int64_t* const count : {&result.positions, &result.same_top1, &result.near_ties})
    HELIX_MPI(MPI_Bcast(count, 1, MPI_INT64_T, owner, instance));
  for (double* const number : {&result.rel_error, &result.bf16_error, &result.worst_position,
                               &result.perplexity, &result.exact_perplexity, &result.perplexity_noise})
    HELIX_MPI(MPI_Bcast(number, 1, MPI_DOUBLE, owner, instance));
  result.failure = broadcast_text(result.failure, owner, instance);
}

}  // namespace

int run_verify_text(const SweepRequest& request) {
  World world = describe_world(MPI_COMM_WORLD, request.memory_fraction);
  const ModelTable models = load_models(request.blocks);
  const ModelSpec& model = models.begin()->second;
  const std::unique_ptr<Checkpoint> weights = open_checkpoint(request, model);
  const std::vector<std::int32_t> text =
      request.prompt.empty() ? random_text(model, request.seed) : request.prompt;
  require_tokens(text, model);
  if (text.size() < 2) throw UsageError("the text has one token; a perplexity takes two");
  const auto steps = std::ssize(text);
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world);
  const std::vector<SweepPoint> points = text_points(request, models, steps, world.size, *backend);
  RankGroups groups(world.comm);
  Progress progress(points.size(), world.rank == 0 && !request.quiet);
  EngineHost host(*backend, world.memory_bytes);

  std::map<std::tuple<DType, DType, TextChoices>, TextTruth> truths;  // by weights, cache and choices
  std::vector<TextRow> rows;
  for (const SweepPoint& point : points) {
    const Configuration& c = point.config;
    TextRow row{.id = configuration_id(c), .status = Status::skipped, .reason = {}, .result = {}};
    progress.running(row.id);
    working_on_row(row.id);
    const Admission admission = admit_text(point, steps, *weights, *backend, world);
    row.reason = admission.reason;
    if (admission.engine) {
      const MPI_Comm instance = groups.first(c.sharding.ranks());
      DecodedText decoded;
      if (instance != MPI_COMM_NULL) {
        row.reason = host.run(*admission.engine, instance,
                              [&](DecodeEngine& engine) { decoded = decode_text(engine, text, instance); });
      }
      {
        working_on("end of the text");
        const ActivityFlag idle(&Activity::bystander, instance == MPI_COMM_NULL);
        wait_idle(world.comm);
      }
      row.reason = broadcast_text(row.reason, 0, world.comm);  // rank 0 is of every instance
      row.status = Status::failed;
      if (row.reason.empty()) {
        const TextChoices choices = broadcast_choices(decoded.choices, world.comm);
        const auto [known, made] = truths.try_emplace({c.shape.weight_dtype, c.shape.kv_dtype, choices});
        if (made) {
          known->second = text_truth({.model = model,
                                      .layers = reference::first_layers(model.layers),
                                      .weight_dtype = c.shape.weight_dtype,
                                      .kv_dtype = c.shape.kv_dtype,
                                      .weights = weights.get()},
                                     text, choices, world.comm);
        }
        if (!decoded.logits.empty()) row.result = judge_text(known->second, decoded.logits);
        if (instance != MPI_COMM_NULL) share(row.result, instance, c.sharding.ranks() - 1);
        row.status = row.result.ok() ? Status::ok : Status::wrong;
        row.reason = row.result.failure;
      }
    }
    rows.push_back(row);
    if (world.rank == 0 && !request.quiet && request.output == OutputFormat::json_lines) {
      const ActivityFlag printing(&Activity::unwatched);
      fmt::print("{}\n", to_json(row).dump());
      std::fflush(stdout);
    }
    progress.finished();
  }
  progress.clear();

  int failures = 0;
  for (const TextRow& row : rows) failures += is_failure(row.status) ? 1 : 0;
  const bool wanted = !request.quiet || request.output != OutputFormat::table;
  if (world.rank == 0 && wanted) print(rows, request.output);
  // Rank 0 is in every group, so it knows every row.
  HELIX_MPI(MPI_Bcast(&failures, 1, MPI_INT, 0, world.comm));
  return failures == 0 ? 0 : 1;
}

}  // namespace helix
