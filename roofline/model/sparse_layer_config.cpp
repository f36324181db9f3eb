#include "roofline/model/sparse_layer_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "roofline/model/config_limits.hpp"
#include "roofline/model/layer_config.hpp"

namespace helix {

void read_indexer_layers(const JsonFields& config, ModelSpec& spec) {
  AttentionSpec reusing = spec.attention;
  reusing.indexer.reused = true;
  const auto* types = config.array("indexer_types");
  const std::string pattern = types ? "" : config.text_or("index_topk_pattern", "");
  const std::int64_t every = config.whole_or("index_topk_freq", limits::layers, 1);
  constexpr std::int64_t offset_of_class = 2;
  const std::int64_t offset =
      config.whole_or("index_skip_topk_offset", limits::or_none(limits::layers), offset_of_class);
  if (!pattern.empty() && pattern.size() < static_cast<std::size_t>(spec.layers))
    config.refuse("index_topk_pattern", fmt::format("expected {} letters", spec.layers));
  bool shares = false;
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool own =
        types ? LayerWords(config, "indexer_types", *types, spec.layers).is(layer, {"full"}, {"shared"})
        : !pattern.empty() ? pattern[static_cast<std::size_t>(layer)] == 'F'
                           : std::max<std::int64_t>(layer - offset + 1, 0) % every == 0;
    if (!own) set_attention(spec, layer, reusing);
    shares = shares || !own;
  }
  if (shares) spec.not_runnable.emplace_back("layers that share an indexer's choice");
  if (const auto* words = config.array("layer_types")) {
    for (std::int64_t layer = 0; layer < spec.layers; ++layer)
      LayerWords(config, "layer_types", *words, spec.layers)
          .is(layer, {"deepseek_sparse_attention", "indexed_attention"}, {});
  }
}

void read_block_sparse_layers(const JsonFields& config, ModelSpec& spec) {
  const auto sparse = config.object("sparse_attention_config");
  config.find("layer_types");  // says the same in newer files
  if (!sparse || !sparse->flag_or("use_sparse_attention", true)) return;
  AttentionSpec chosen = spec.attention;
  chosen.indexer.heads = sparse->whole("sparse_num_index_heads", limits::heads);
  chosen.indexer.head_dim = sparse->whole("sparse_index_dim", limits::head_dim);
  chosen.indexer.top_k = sparse->whole("sparse_topk_blocks", limits::experts) *
                         sparse->whole("sparse_block_size", limits::experts);
  const auto* freq = sparse->array("sparse_attention_freq");
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    if (!freq || LayerFlags(*sparse, "sparse_attention_freq", *freq, spec.layers)[layer])
      set_attention(spec, layer, chosen);
  }
  spec.not_runnable.emplace_back(config.show("sparse_attention_config"));
}

void read_compressed_layers(const JsonFields& config, ModelSpec& spec) {
  const auto* ratios = config.array("compress_ratios");
  if (!ratios) config.refuse("compress_ratios", "expected the compression of each layer");
  require_entries(config, "compress_ratios", *ratios, spec.layers);
  IndexerSpec indexer{.heads = config.whole("index_n_heads", limits::heads),
                      .head_dim = config.whole("index_head_dim", limits::head_dim),
                      .top_k = config.whole("index_topk", limits::tokens)};
  constexpr std::int64_t indexed_ratio = 4;  // entries of larger ratios are few enough to attend to all
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const auto& entry = (*ratios)[static_cast<std::size_t>(layer)];
    if (!entry.is_number_integer() || entry < 0 || entry > limits::experts.max)
      config.refuse("compress_ratios", "expected an array of whole numbers");
    AttentionSpec attention = spec.attention;
    attention.compression = entry.get<std::int64_t>();
    if (attention.compression > 0 && attention.compression <= indexed_ratio) attention.indexer = indexer;
    set_attention(spec, layer, attention);
  }
}

}  // namespace helix
