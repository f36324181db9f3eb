// What a model is by numbers that people plan with, whatever it is sharded into.
#pragma once

#include <cstdint>

#include "roofline/model/model_spec.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

/// Parameters of products, embedding and convolutions; gains and biases are too few to count.
struct ParameterCount {
  double total = 0;
  double active = 0;  // that a token is multiplied with: the chosen experts, and one of embedding and LM head
};
ParameterCount parameters(const ModelSpec& model);

/// Bytes that a cached token takes in all layers that cache it, be it only while it is in their window; keys of
/// an indexer included. An entry that stands for several tokens counts in part.
double kv_bytes_per_token(const ModelSpec& model, DType kv_dtype);
/// Of a request of so many tokens: held, not rounded to pages, and read to make one more.
double kv_bytes_held(const ModelSpec& model, DType kv_dtype, std::int64_t context);
double kv_bytes_read(const ModelSpec& model, DType kv_dtype, std::int64_t context);

double state_bytes_per_request(const ModelSpec& model);

/// What of this a row says, at its context and its cache's type.
struct ModelFigures {
  double active_parameters = 0;
  double kv_bytes_per_token = 0;
  double kv_read_bytes_per_token = 0;  // of a request, to make a token
  double state_bytes_per_request = 0;
};
ModelFigures model_figures(const ModelSpec& model, const DecodeShape& shape);

}  // namespace helix
