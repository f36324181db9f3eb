"""Draws plots as SVG and PNG: {"plots": [{"name": ..., "spec": a Vega-Lite specification}], "theme": ...} on standard
input, pictures into the directory that is the argument. Ends with 3 if the library is missing."""
import json
import pathlib
import re
import sys

try:
    import vl_convert
except ImportError:
    sys.exit(3)

task = json.load(sys.stdin)
directory = pathlib.Path(sys.argv[1])
for plot in task["plots"]:
    svg = vl_convert.vegalite_to_svg(plot["spec"], config=task["theme"])
    (directory / (plot["name"] + ".svg")).write_text(svg, encoding="utf-8")
    width, height = (float(size) for size in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    # A slide is 1600 pixels wide and more; sharp where that stays of a size to be sent.
    scale = max(1600 / width, 2 if width * height < 1e6 else 1)
    (directory / (plot["name"] + ".png")).write_bytes(vl_convert.svg_to_png(svg, scale=scale))
