#include "sweeps/report/plot_python.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "roofline/base/embedded.hpp"
#include "roofline/base/error.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

std::string python_of_a_venv_above_the_program() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  for (fs::path folder = program.parent_path(); !folder.empty(); folder = folder.parent_path()) {
    const fs::path python = folder / ".venv" / "bin" / "python";
    if (fs::exists(python, error)) return python.string();
    if (folder == folder.root_path()) break;
  }
  return "";
}

/// What a command writes, or nothing if it fails.
std::string output_of(const std::string& command) {
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return "";
  std::string output;
  std::array<char, 1 << 16> piece{};
  while (const std::size_t read = std::fread(piece.data(), 1, piece.size(), pipe))
    output.append(piece.data(), read);
  return pclose(pipe) == 0 ? output : "";
}

std::string find_vega_javascript() {
  for (const EmbeddedFile& file : embedded_report_scripts()) {
    if (file.name == "vega") return std::string(file.text);
  }
  const std::string python = plot_python();
  std::string javascript =
      output_of(shell_quoted(python) +
                " -c 'import sys, vl_convert; sys.stdout.write(vl_convert.javascript_bundle())' 2>/dev/null "
                "</dev/null");
  if (!javascript.empty()) return javascript;
  throw UsageError(
      fmt::format("report: '{}' has no vl_convert, which draws the plots; valid: scripts/install_deps.sh "
                  "plot, or pip install "
                  "vl-convert-python for a Python that HELIX_PLOT_PYTHON names",
                  python));
}

}  // namespace

std::string shell_quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'')
      quoted += "'\\''";
    else
      quoted += c;
  }
  return quoted + '\'';
}

std::string plot_python() {
  if (const char* chosen = std::getenv("HELIX_PLOT_PYTHON")) return chosen;
  const std::string beside = python_of_a_venv_above_the_program();
  if (!beside.empty()) return beside;
  std::error_code error;
  return fs::exists(HELIX_PLOT_PYTHON, error) ? HELIX_PLOT_PYTHON : "python3";
}

const std::string& vega_javascript() {
  static const std::string javascript = find_vega_javascript();
  return javascript;
}

}  // namespace helix
