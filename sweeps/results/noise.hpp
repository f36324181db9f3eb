// How well a measured time is known, and which difference of two that is.
#pragma once

#include "sweeps/results/result_row.hpp"

namespace helix {

/// Standard error of a median, relative; widened by the samples' autocorrelation as far as these are known.
double relative_error(const Measurement& measurement);

/// Whether the times of two rows differ by no more than can be told: twice the standard error of their ratio
/// if both were measured, and never less than half a percent, which is what a prediction's digits are worth.
bool within_noise(const ResultRow& a, const ResultRow& b);

/// Measured if the row was, else predicted.
double ttl_us(const ResultRow& row);

}  // namespace helix
