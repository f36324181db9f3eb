#include "roofline/base/yaml_file.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>

#include <sstream>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix {
namespace {

/// Counts what a document holds before nodes are made of it.
class Bounds final : public YAML::EventHandler {
 public:
  explicit Bounds(const std::string& origin) : origin_(origin) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& at, YAML::anchor_t) override { count(at); }
  void OnAlias(const YAML::Mark& at, YAML::anchor_t) override { count(at); }
  void OnScalar(const YAML::Mark& at, const std::string&, YAML::anchor_t, const std::string&) override {
    count(at);
  }
  void OnSequenceStart(const YAML::Mark& at, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(at);
  }
  void OnSequenceEnd() override { --depth_; }
  void OnMapStart(const YAML::Mark& at, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(at);
  }
  void OnMapEnd() override { --depth_; }

 private:
  void open(const YAML::Mark& at) {
    constexpr int deepest = 64;
    if (++depth_ > deepest) fail(at, fmt::format("nested more than {} deep", deepest));
    count(at);
  }
  void count(const YAML::Mark& at) {
    constexpr int most = 100'000;
    if (++values_ > most) fail(at, fmt::format("more than {} values", most));
  }
  [[noreturn]] void fail(const YAML::Mark& at, const std::string& what) const {
    throw UsageError(fmt::format("{}: line {}: {}", origin_, at.line + 1, what));
  }

  const std::string& origin_;
  int depth_ = 0, values_ = 0;
};

}  // namespace

YAML::Node parse_yaml(std::string_view yaml, const std::string& origin) {
  const std::string text(yaml);
  try {
    std::istringstream events(text);
    Bounds bounds(origin);
    YAML::Parser(events).HandleNextDocument(bounds);
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw UsageError(
        fmt::format("{}: malformed, line {}: {}", origin, error.mark.line + 1, excerpt(error.msg)));
  }
}

YAML::Node parse_yaml_map(std::string_view yaml, const std::string& origin) {
  const YAML::Node root = parse_yaml(yaml, origin);
  if (!root.IsMap()) throw UsageError(fmt::format("{}: not a mapping of keys to values", origin));
  return root;
}

}  // namespace helix
