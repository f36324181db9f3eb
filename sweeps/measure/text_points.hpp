// Points that decode a text from an empty cache, with weights of a checkpoint: what verify --weights and generate run.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/checkpoint/checkpoint.hpp"
#include "sweeps/measure/admission.hpp"
#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// The checkpoint of the request, null without one. Throws UsageError: the engine does not run its model, or see
/// Checkpoint.
std::unique_ptr<Checkpoint> open_checkpoint(const SweepRequest& request, const ModelSpec& model);

/// The points of the request, one request a DP group; their ids name `tokens` as context, the engine begins with 0.
/// Weights of a type that the backend lacks, or of several types, are held in bf16 unless a flag says otherwise.
std::vector<SweepPoint> text_points(const SweepRequest& request, const ModelTable& models,
                                    std::int64_t tokens, int world_ranks, const Backend& backend);

/// Whether such a point runs here, and the engine that decodes `steps` tokens with the checkpoint's weights.
Admission admit_text(const SweepPoint& point, std::int64_t steps, const Checkpoint& weights, Backend& backend,
                     const World& world);

/// Throws UsageError: tokens that the model's vocabulary has not.
void require_tokens(const std::vector<std::int32_t>& tokens, const ModelSpec& model);

}  // namespace helix
