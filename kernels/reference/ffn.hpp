// The FFN of a layer: dense, or experts.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/reference/layer.hpp"

namespace helix::reference {

/// `given`: the experts chosen elsewhere, or none. What it chose itself and why that cannot be goes to `step`, the last of
/// whose routing is the layer's.
Vector ffn(const Layer& layer, const Vector& x, std::span<const std::int32_t> given, ReferenceStep& step);

}  // namespace helix::reference
