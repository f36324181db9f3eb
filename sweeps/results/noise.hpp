// How well a measured time is known, and which difference of two that is.
#pragma once

#include "sweeps/results/result_row.hpp"

namespace helix {

/// Standard error of a median, relative; widened by the samples' autocorrelation as far as these are known.
double relative_error(const Measurement& measurement);

/// The relative difference of the times of two rows from which on it can be told: twice the standard error of
/// their ratio if both were measured, and never less than half a percent, which is what a prediction's digits
/// are worth.
double telling_difference(const ResultRow& a, const ResultRow& b);

/// Whether the times of two rows differ by less than can be told.
bool within_noise(const ResultRow& a, const ResultRow& b);

/// Of a step; measured if the row was, else predicted.
double ttl_us(const ResultRow& row);
/// The same of a token.
double token_us(const ResultRow& row);

}  // namespace helix
