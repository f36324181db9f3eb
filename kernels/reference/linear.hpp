// y = x W^T in fp64 and plain loops.
#pragma once

#include <cstdint>
#include <vector>

namespace helix::reference {

/// x [m, k], w [n, k] -> y [m, n].
inline std::vector<double> linear(std::int64_t m, std::int64_t n, std::int64_t k,
                                  const std::vector<double>& x, const std::vector<double>& w) {
  std::vector<double> y(static_cast<std::size_t>(m * n), 0.0);
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t l = 0; l < k; ++l)
        y[static_cast<std::size_t>(i * n + j)] +=
            x[static_cast<std::size_t>(i * k + l)] * w[static_cast<std::size_t>(j * k + l)];
  return y;
}

}  // namespace helix::reference
