// A file of Google Benchmark (`--benchmark_out=FILE.json`), read as a run: every benchmark is a row, and its
// repetitions are the samples.
#pragma once

#include <filesystem>

#include "sweeps/results/stored_run.hpp"

namespace helix {

/// Throws UsageError in one line: not readable, not such a file, a time that is none, no benchmark.
StoredRun read_microbench_run(const std::filesystem::path& file);

}  // namespace helix
