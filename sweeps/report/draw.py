"""Draws plots as SVG and PNG: {"plots": [{"name": ..., "spec": a Vega-Lite specification}], "theme": ...} on standard
input, pictures into the directory that is the argument. Ends with 3 if the library is missing."""
import json
import pathlib
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
    (directory / (plot["name"] + ".png")).write_bytes(vl_convert.svg_to_png(svg, scale=2))
