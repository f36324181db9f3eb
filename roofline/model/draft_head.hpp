// Eagle-3 heads (Li et al. 2025): a small model that drafts for another one, given by a config.json of its own.
#pragma once

#include <string>
#include <string_view>

#include "roofline/model/model_spec.hpp"

namespace helix {

/// The model with this head to draft for it, in place of draft layers of its own. `path`: of a config.json, or of a
/// directory with one. Throws UsageError: unreadable, no Eagle-3 head, or the head of another model.
ModelSpec with_draft_head(ModelSpec model, const std::string& path);

/// The same from JSON text; `origin` names it in errors.
ModelSpec with_draft_head(ModelSpec model, std::string_view json_text, const std::string& origin);

}  // namespace helix
