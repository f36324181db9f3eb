// YAML maps by one description of their fields, which serves reading and writing:
//   struct Describe { void operator()(auto& io, auto& t) const { io.number("key", t.member, limits); ... } };
// with io a MapReader and t mutable, or io a MapWriter and t const.
#pragma once

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"

namespace helix::yaml {

/// What a number may be; anything outside is a mistake of units or a typo.
struct Limits {
  double low, high;
};

enum class Presence { required, optional };

/// Every key of the map must be asked for, and every required one must be there. A `partial` map changes a
/// value that is complete already: nothing in it is required.
class MapReader {
 public:
  MapReader(YAML::Node node, std::string where, bool partial)
      : node_(std::move(node)), where_(std::move(where)), partial_(partial) {
    if (!node_.IsMap()) fail("expected a map");
  }

  void number(const char* key, double& value, Limits limits, Presence presence = Presence::required) {
    const YAML::Node n = get(key, presence);
    if (!n) return;
    try {
      value = n.as<double>();
    } catch (const YAML::Exception&) {
      fail(fmt::format("'{}' must be a number", key));
    }
    if (!(value >= limits.low && value <= limits.high)) {
      fail(fmt::format("{} = {:g} is outside [{:g}, {:g}]", key, value, limits.low, limits.high));
    }
  }

  void integer(const char* key, int& value, Limits limits) {
    double number_value = value;
    number(key, number_value, limits);
    if (number_value != std::floor(number_value)) fail(fmt::format("'{}' must be an integer", key));
    value = static_cast<int>(number_value);
  }

  void text(const char* key, std::string& value) {
    if (const YAML::Node n = get(key, Presence::required)) {
      if (!n.IsScalar()) fail(fmt::format("'{}' must be a text", key));
      value = n.Scalar();
    }
  }

  void flag(const char* key, bool& value) {
    const YAML::Node n = get(key, Presence::optional);
    if (!n) return;
    try {
      value = n.as<bool>();
    } catch (const YAML::Exception&) {
      fail(fmt::format("'{}' must be true or false", key));
    }
  }

  template <class Table, class Value>
  void choice(const char* key, Value& value, const Table& table) {
    std::string chosen;
    text(key, chosen);
    std::string valid;
    for (const auto& [candidate, candidate_name] : table) {
      if (candidate_name == chosen) {
        value = candidate;
        return;
      }
      valid += (valid.empty() ? "" : ", ") + std::string(candidate_name);
    }
    fail(fmt::format("unknown {} '{}'; valid: {}", key, excerpt(chosen), valid));
  }

  template <class T, class Describe>
  void section(const char* key, T& value, Describe describe) {
    const YAML::Node n = get(key, Presence::required);
    if (!n) return;
    MapReader io(n, fmt::format("{}: {}", where_, key), partial_);
    describe(io, value);
    io.refuse_unknown();
  }

  template <class T, class Describe>
  void list(const char* key, std::vector<T>& values, Describe describe) {
    const YAML::Node n = get(key, Presence::optional);
    if (!n) return;
    if (!n.IsSequence()) fail(fmt::format("'{}' must be a list", key));
    values.clear();
    for (std::size_t i = 0; i < n.size(); ++i) {
      MapReader io(n[i], fmt::format("{}: {}[{}]", where_, key, i), false);
      describe(io, values.emplace_back());
      io.refuse_unknown();
    }
  }

  void texts(const char* key, std::map<std::string, std::string>& values) {
    const YAML::Node n = get(key, Presence::optional);
    if (!n) return;
    if (!n.IsMap()) fail(fmt::format("'{}' must map names to texts", key));
    for (const auto& entry : n) values[entry.first.as<std::string>("")] = entry.second.as<std::string>("");
  }

  bool has(const char* key) const { return static_cast<bool>(node_[key]); }

  void refuse_unknown() const {
    for (const auto& entry : node_) {
      const std::string key = entry.first.as<std::string>("?");
      if (asked_.contains(key)) continue;
      std::string valid;
      for (const std::string& k : asked_) valid += (valid.empty() ? "" : ", ") + k;
      fail(fmt::format("unknown key '{}'; valid: {}", excerpt(key), valid));
    }
  }

 private:
  YAML::Node get(const char* key, Presence presence) {
    asked_.insert(key);
    YAML::Node n = node_[key];
    if (!n && presence == Presence::required && !partial_) fail(fmt::format("'{}' is missing", key));
    return n;
  }
  [[noreturn]] void fail(const std::string& what) const { throw UsageError(where_ + ": " + what); }

  YAML::Node node_;
  std::string where_;
  bool partial_;
  std::set<std::string> asked_;
};

class MapWriter {
 public:
  explicit MapWriter(YAML::Emitter& out) : out_(out) {}

  void number(const char* key, double value, Limits, Presence = Presence::required) {
    this->key(key) << fmt::format("{}", value);  // the shortest text that reads back to the same number
  }
  void integer(const char* key, int value, Limits) { this->key(key) << value; }
  void text(const char* key, const std::string& value) { this->key(key) << YAML::DoubleQuoted << value; }
  void flag(const char* key, bool value) { this->key(key) << value; }

  template <class Table, class Value>
  void choice(const char* key, Value value, const Table& table) {
    for (const auto& [candidate, candidate_name] : table) {
      if (candidate == value) this->key(key) << std::string(candidate_name);
    }
  }

  template <class T, class Describe>
  void section(const char* key, const T& value, Describe describe) {
    this->key(key) << YAML::BeginMap;
    describe(*this, value);
    out_ << YAML::EndMap;
  }

  template <class T, class Describe>
  void list(const char* key, const std::vector<T>& values, Describe describe) {
    if (values.empty()) return;
    this->key(key) << YAML::BeginSeq;
    for (const T& value : values) {
      out_ << YAML::Flow << YAML::BeginMap;
      describe(*this, value);
      out_ << YAML::EndMap;
    }
    out_ << YAML::EndSeq;
  }

  void texts(const char* key, const std::map<std::string, std::string>& values) {
    if (values.empty()) return;
    this->key(key) << YAML::BeginMap;
    for (const auto& [k, v] : values) text(k.c_str(), v);
    out_ << YAML::EndMap;
  }

 private:
  YAML::Emitter& key(const char* key) { return out_ << YAML::Key << key << YAML::Value; }
  YAML::Emitter& out_;
};

}  // namespace helix::yaml
