#include <fmt/format.h>

#include <pugixml.hpp>
#include <sstream>

#include "sweeps/compare/comparison_formats.hpp"

namespace helix {
namespace {

/// Without the characters that XML 1.0 has no way to write (2.2): a reason may quote anything.
std::string writable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') c = ' ';
  }
  return text;
}

void set(pugi::xml_node node, const char* attribute, const std::string& value) {
  node.append_attribute(attribute).set_value(writable(value).c_str());
}

std::string message(const Comparison& c, const ComparedRow& row) {
  if (!row.p_value) return fmt::format("{}: {}", name(row.verdict), row.reason);
  if (c.limits.roofline_fractions) {
    return fmt::format("{}: roofline fraction {:.4g} instead of {:.4g}, p {:.2g}", name(row.verdict),
                       *row.head, *row.base, *row.p_value);
  }
  return fmt::format("{}: {:+.2f} %, {:.4g} us instead of {:.4g} us, p {:.2g}", name(row.verdict),
                     100.0 * *row.change, *row.head, *row.base, *row.p_value);
}

}  // namespace

std::string comparison_junit(const Comparison& c) {
  pugi::xml_document document;
  pugi::xml_node declaration = document.append_child(pugi::node_declaration);
  set(declaration, "version", "1.0");
  set(declaration, "encoding", "UTF-8");
  pugi::xml_node suite = document.append_child("testsuites").append_child("testsuite");

  std::size_t failures = 0, skipped = 0;
  for (const ComparedRow& row : c.rows) {
    pugi::xml_node test = suite.append_child("testcase");
    set(test, "classname", "helix-bench.compare");
    set(test, "name", row.id);
    if (fails(row.verdict) || (unjudged(row.verdict) && !c.limits.allow_unjudged)) {
      ++failures;
      pugi::xml_node failure = test.append_child("failure");
      set(failure, "type", std::string(name(row.verdict)));
      set(failure, "message", message(c, row));
    } else if (!row.p_value) {
      ++skipped;
      set(test.append_child("skipped"), "message", message(c, row));
    } else {
      test.append_child("system-out").text().set(message(c, row).c_str());
    }
  }
  set(suite, "name", "helix-bench compare");
  set(suite, "tests", fmt::format("{}", c.rows.size()));
  set(suite, "failures", fmt::format("{}", failures));
  set(suite, "errors", "0");
  set(suite, "skipped", fmt::format("{}", skipped));

  std::ostringstream text;
  document.save(text, "  ");
  return text.str();
}

}  // namespace helix
