#include "sweeps/report/draw.hpp"

#include <fmt/format.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "roofline/base/embedded.hpp"
#include "sweeps/report/plot_python.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

/// A command that reads standard input; its exit code, 127 if the shell does not find it.
int run_with_input(const std::string& command, const std::string& input) {
  // A command that ends without reading must not end us.
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  std::FILE* pipe = popen(command.c_str(), "w");
  int status = -1;
  if (pipe) {
    std::fwrite(input.data(), 1, input.size(), pipe);
    status = pclose(pipe);
  }
  std::signal(SIGPIPE, before);
  return status >= 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

std::string draw_pictures(const std::vector<Plot>& plots, const fs::path& directory) {
  Json task = {{"theme", plot_theme(false)}, {"plots", Json::array()}};
  for (const Plot& plot : plots) task["plots"].push_back({{"name", plot.name}, {"spec", plot.spec}});

  const std::string python = plot_python();
  const std::string script(embedded_report_drawing().front().text);
  const fs::path log = directory / "draw.log";
  const int code =
      run_with_input(fmt::format("{} -c {} {} >/dev/null 2>{}", shell_quoted(python), shell_quoted(script),
                                 shell_quoted(directory.string()), shell_quoted(log.string())),
                     task.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::error_code error;
  if (code == 0 || code == 3 || code == 127) fs::remove(log, error);
  switch (code) {
    case 0:
      return "";
    case 3:
      return fmt::format(
          "{} has no vl_convert; scripts/install_deps.sh plot installs it, and HELIX_PLOT_PYTHON "
          "names another Python",
          python);
    case 127:
      return fmt::format("no Python '{}'; HELIX_PLOT_PYTHON names another", python);
    default:
      return fmt::format("{} failed, see {}", python, log.string());
  }
}

}  // namespace helix
