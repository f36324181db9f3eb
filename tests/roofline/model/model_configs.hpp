// Configurations to test with: those of built-in models, changed, and what parse_model says to them.
#pragma once

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "roofline/base/embedded.hpp"
#include "roofline/model/model_spec.hpp"
#include "tests/usage_error.hpp"

namespace helix::test {

inline nlohmann::json built_in(const std::string& name) {
  for (const EmbeddedFile& file : embedded_models()) {
    if (file.name == name) return nlohmann::json::parse(file.text);
  }
  throw std::invalid_argument(name);
}

/// The configuration of a built-in model with some fields changed (null: taken away).
inline nlohmann::json changed(const std::string& name, const nlohmann::json& changes) {
  nlohmann::json config = built_in(name);
  config.merge_patch(changes);
  return config;
}

inline ModelSpec parsed(const nlohmann::json& config) {
  return parse_model(config.dump(), "test.json");
}

/// What parse_model complains about, one short line that names the origin; "accepted" if it does not.
inline std::string complaint(const std::string& text) {
  const std::string line = usage_error([&] { parse_model(text, "test.json"); });
  if (line.empty()) return "accepted";
  CHECK(line.find('\n') == std::string::npos);
  CHECK_THAT(line, Catch::Matchers::Contains("test.json"));
  CHECK(line.size() < 300);
  return line;
}

inline std::string complaint(const std::string& model, const nlohmann::json& changes) {
  return complaint(changed(model, changes).dump());
}

/// The window of each layer's attention, 0: it has none.
inline std::vector<std::int64_t> windows(const ModelSpec& model) {
  std::vector<std::int64_t> windows;
  for (std::int64_t layer = 0; layer < model.layers; ++layer)
    windows.push_back(model.attention_of(model.layer_kind(layer)).window);
  return windows;
}

}  // namespace helix::test
