// The CI workflows are YAML that calls scripts/ci_compare.sh and names no machine.
#include <yaml-cpp/yaml.h>
#include <catch2/catch.hpp>

#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace {

std::string text_of(const std::string& path) {
  std::ifstream file(HELIX_SOURCE_DIR "/" + path);
  REQUIRE(file);
  return (std::ostringstream() << file.rdbuf()).str();
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the GitHub workflow measures on a GPU runner and may write to the pull request elsewhere only") {
  const YAML::Node workflow = YAML::Load(text_of(".github/workflows/performance.yml"));
  CHECK(workflow["on"]["pull_request"].IsDefined());
  CHECK(workflow["permissions"]["contents"].as<std::string>() == "read");
  const YAML::Node measure = workflow["jobs"]["measure"];
  CHECK(measure["runs-on"][1].as<std::string>() == "gpu");
  CHECK_FALSE(measure["permissions"].IsDefined());
  bool measures = false;
  for (const YAML::Node& step : measure["steps"]) {
    measures |=
        step["run"].IsDefined() && contains(step["run"].as<std::string>(), "scripts/ci_compare.sh \"$BASE\"");
  }
  CHECK(measures);
  CHECK(workflow["jobs"]["comment"]["needs"].as<std::string>() == "measure");
}

TEST_CASE("the GitLab pipeline compares merge requests") {
  const YAML::Node job = YAML::Load(text_of(".gitlab-ci.yml"))["performance"];
  CHECK(contains(job["script"][1].as<std::string>(),
                 "scripts/ci_compare.sh \"$CI_MERGE_REQUEST_DIFF_BASE_SHA\""));
  CHECK(job["artifacts"]["reports"]["junit"].as<std::string>() == "build/ci-compare/comparison.junit.xml");
}

TEST_CASE("both README commands are tried on both bare Debians: one by .ci/run, the others at night") {
  CHECK(contains(text_of(".ci/run"), "scripts/fresh_machine.sh bookworm run"));
  std::set<std::string> nightly;
  for (const YAML::Node& machine : YAML::Load(text_of(
           ".github/workflows/nightly.yml"))["jobs"]["fresh-machine"]["strategy"]["matrix"]["include"])
    nightly.insert(machine["release"].as<std::string>() + " " + machine["command"].as<std::string>());
  CHECK(nightly == std::set<std::string>{"bookworm test", "trixie run", "trixie test"});
}

TEST_CASE("CI files name no host and no image") {
  for (const char* path : {".github/workflows/performance.yml", ".gitlab-ci.yml", "scripts/ci_compare.sh"}) {
    CHECK_FALSE(contains(text_of(path), "://"));
    CHECK_FALSE(contains(text_of(path), "image:"));
  }
}
