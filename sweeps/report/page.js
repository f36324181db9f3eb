// Puts the interactive plots in place of the pictures, in the colours of the reader's surroundings.
(() => {
  "use strict";
  const { plots, themes } = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  async function draw() {
    const theme = dark.matches ? "dark" : "light";
    for (const { name, spec } of plots) {
      const place = document.getElementById("plot-" + name);
      const view = document.createElement("div");
      // ast: expressions are interpreted, so that viewers which forbid eval show the plots, too.
      await vegaEmbed(view, spec, {
        mode: "vega-lite", renderer: "svg", ast: true, config: themes[theme], tooltip: { theme },
        actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: name,
      });
      place.replaceChildren(view);
    }
    document.documentElement.dataset.drawn = theme;
  }

  dark.addEventListener("change", draw);
  draw();
})();
