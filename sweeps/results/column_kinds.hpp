// The kinds of columns of results.csv: how a quantity of a row is written and read back.
#pragma once

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "sweeps/results/result_columns.hpp"

namespace helix::columns {

struct Column {
  std::string_view name;
  std::string (*write)(const ResultRow& row);
  void (*read)(ResultRow& row, const std::string& text);  // text is not empty
};

inline std::string number(double value) {
  return std::isfinite(value) ? fmt::format("{:.7g}", value) : std::string{};
}
inline std::string whole(double value) {
  return std::isfinite(value) ? fmt::format("{:.0f}", value) : std::string{};
}

template <class T>
T parse_number(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw UsageError(fmt::format("'{}' is not a number", excerpt(text)));
  }
  return value;
}

template <class T>
T& engaged(std::optional<T>& value) {
  return value ? *value : value.emplace();
}

/// Empty where nothing was sampled.
template <class Write>
std::string of_sampled(const ResultRow& row, Write write) {
  const Measurement* const sampled = row.sampled();
  return sampled ? write(*sampled) : std::string{};
}
/// Of a row that is read, whose status stands before.
inline Measurement& engaged_sampled(ResultRow& row) {
  return row.status == Status::one_rank ? engaged(row.share).compute : engaged(row.measurement);
}

// Columns that are one field of something in the row.
template <auto member>
constexpr Column text_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return row.*member; },
          [](ResultRow& row, const std::string& text) { row.*member = text; }};
}

template <int Sharding::*member>
constexpr Column width_column(std::string_view name) {
  return {
      name, [](const ResultRow& row) { return fmt::format("{}", row.config.sharding.*member); },
      [](ResultRow& row, const std::string& text) { row.config.sharding.*member = parse_number<int>(text); }};
}

template <auto member>
constexpr Column shape_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return fmt::format("{}", row.config.shape.*member); },
          [](ResultRow& row, const std::string& text) {
            row.config.shape.*member =
                parse_number<std::remove_cvref_t<decltype(row.config.shape.*member)>>(text);
          }};
}

template <DType DecodeShape::*member>
constexpr Column dtype_column(std::string_view column) {
  return {column, [](const ResultRow& row) { return std::string(name(row.config.shape.*member)); },
          [](ResultRow& row, const std::string& text) { row.config.shape.*member = parse_dtype(text); }};
}

template <std::int64_t ResultRow::*member>
constexpr Column count_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return row.*member > 0 ? fmt::format("{}", row.*member) : ""; },
          [](ResultRow& row, const std::string& text) { row.*member = parse_number<std::int64_t>(text); }};
}

template <double Measurement::*member>
constexpr Column measured_column(std::string_view name) {
  return {name,
          [](const ResultRow& row) { return row.measurement ? number((*row.measurement).*member) : ""; },
          [](ResultRow& row, const std::string& text) {
            engaged(row.measurement).*member = parse_number<double>(text);
          }};
}

template <Phase phase>
constexpr Column measured_phase_column(std::string_view name) {
  return {name,
          [](const ResultRow& row) {
            return of_sampled(row, [](const Measurement& m) { return number(m.phases[phase]); });
          },
          [](ResultRow& row, const std::string& text) {
            engaged_sampled(row).phases[phase] = parse_number<double>(text);
          }};
}

template <double RankShare::*member>
constexpr Column share_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return row.share ? number((*row.share).*member) : ""; },
          [](ResultRow& row, const std::string& text) {
            engaged(row.share).*member = parse_number<double>(text);
          }};
}

template <double Prediction::*member, std::string (*format)(double) = number>
constexpr Column predicted_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return row.prediction ? format((*row.prediction).*member) : ""; },
          [](ResultRow& row, const std::string& text) {
            engaged(row.prediction).*member = parse_number<double>(text);
          }};
}

template <Phase phase>
constexpr Column predicted_phase_column(std::string_view name) {
  return {name,
          [](const ResultRow& row) { return row.prediction ? number(row.prediction->phases[phase]) : ""; },
          [](ResultRow& row, const std::string& text) {
            engaged(row.prediction).phases[phase] = parse_number<double>(text);
          }};
}

inline std::string share(double time_us, const Prediction& p) {
  return std::isfinite(time_us / p.model_ttl_us) ? fmt::format("{:.4f}", time_us / p.model_ttl_us) : "";
}

/// Part of the predicted step in phases that have no column of their own.
template <Phase phase>
constexpr Column predicted_share_column(std::string_view name) {
  return {name,
          [](const ResultRow& row) {
            return row.prediction ? share(row.prediction->phases[phase], *row.prediction) : "";
          },
          [](ResultRow& row, const std::string& text) {
            Prediction& p = engaged(row.prediction);
            p.phases[phase] = parse_number<double>(text) * p.model_ttl_us;
          }};
}

template <std::optional<double> ResultRow::*member>
constexpr Column optional_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return row.*member ? number(*(row.*member)) : ""; },
          [](ResultRow& row, const std::string& text) { row.*member = parse_number<double>(text); }};
}

template <double ModelFigures::*member>
constexpr Column figure_column(std::string_view name) {
  return {name, [](const ResultRow& row) { return row.figures ? whole((*row.figures).*member) : ""; },
          [](ResultRow& row, const std::string& text) {
            engaged(row.figures).*member = parse_number<double>(text);
          }};
}

/// A part of memory_bytes_per_rank, which is read first.
template <double Prediction::*member>
constexpr Column memory_share_column(std::string_view name) {
  return {name,
          [](const ResultRow& row) {
            return row.prediction ? number((*row.prediction).*member / row.prediction->memory_bytes_per_rank)
                                  : "";
          },
          [](ResultRow& row, const std::string& text) {
            Prediction& p = engaged(row.prediction);
            p.*member = parse_number<double>(text) * p.memory_bytes_per_rank;
          }};
}

/// Follows from other columns: written, not read.
constexpr Column derived_column(std::string_view name, std::string (*write)(const ResultRow&)) {
  return {name, write, [](ResultRow&, const std::string&) {}};
}

template <class Enum, std::size_t n>
Enum parse_name(const std::array<Enum, n>& all, const std::string& text) {
  for (const Enum value : all) {
    if (text == name(value)) return value;
  }
  throw UsageError(fmt::format("unknown word '{}'", excerpt(text)));
}

}  // namespace helix::columns
