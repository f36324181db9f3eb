#!/usr/bin/env python3
"""`helix-bench report` as users call it: what it writes for measured, predicted, several, single-row and incomplete runs,
what it refuses, and in a browser whether the page is readable: marks, texts, colours, hovering, no network.
report.py HELIX_BENCH [unused]     HELIX_SCREENSHOTS=DIR keeps pictures of the pages"""
import csv
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import browser

program = sys.argv[1]
reference = pathlib.Path(__file__).resolve().parents[2] / "results/reference"
MEASURED, PREDICTED, ONE_SCENE = (reference / name for name in ("default-2-cores", "predict-crossover",
                                                                "predict-helix-fig5"))
screenshots = os.environ.get("HELIX_SCREENSHOTS")
scratch = pathlib.Path(tempfile.mkdtemp())
passed = 0


def run(*arguments, **environment):
    return subprocess.run([program, "report", *map(str, arguments)], cwd=scratch, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def written(*arguments, **environment):
    done = run(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done


def rows_of(directory):
    with open(directory / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def make_run(name, rows, provenance=None):
    """A run directory of these rows."""
    directory = scratch / name
    directory.mkdir()
    with open(directory / "results.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    (directory / "run.json").write_text(provenance or (MEASURED / "run.json").read_text())
    return directory


measured_rows = rows_of(MEASURED)

# --- What is written ---------------------------------------------------------------------------------------------------
done = written(MEASURED, "--out", "measured")
names = ["report.html"] + [f"{plot}.{kind}" for plot in ("answer", "pareto", "roofline", "phases", "crossover")
                           for kind in ("svg", "png")]
assert done.stdout.split() == [f"measured/{name}" for name in names], done.stdout
assert done.stderr == "" and sorted(p.name for p in (scratch / "measured").iterdir()) == sorted(names)
for name in names[1:]:
    picture = (scratch / "measured" / name).read_bytes()
    if name.endswith(".png"):
        width, height = struct.unpack(">II", picture[16:24])
        assert picture.startswith(b"\x89PNG") and width >= 1600 and height > 150, (name, width, height)
    else:
        texts = "".join(xml.etree.ElementTree.fromstring(picture).itertext())
        assert "deepseek-v2-lite" in texts and "llama-3.2-1b" in texts, name
page = (scratch / "measured/report.html").read_text()
assert page.count("<svg") >= 5, "viewers without scripts have no pictures"
run_json = json.loads((MEASURED / "run.json").read_text())
assert run_json["commit"] in page and run_json["host"]["cpu"] in page and "HELIX" not in page.split("<script")[0]
assert page.index("times as fast as tp at 64K tokens") < page.index("plot-answer") < page.index("<h2 id=\"runs\">")
written(MEASURED, "--out", "measured", "--quiet")  # again: plots are made anew
passed += 1

written(PREDICTED, "--out", "predicted")
written(MEASURED, ONE_SCENE, "--out", "several")
own = make_run("own", measured_rows[:1])
assert not written(own, "--quiet").stdout
written(own, ONE_SCENE)
assert len(list(scratch.glob("results/*/report.html"))) == 1, "several runs have a directory of their own"
assert (own / "report.html").exists() and (own / "crossover.svg").exists() is False
passed += 1

# Rows that did not run, a run that was broken off, texts that HTML must not take for its own.
skipped = {**dict.fromkeys(measured_rows[0], ""), **{key: measured_rows[0][key] for key in (
    "strategy", "model", "kvp", "tpa", "tpf", "ep", "pp", "dp", "context", "batch", "hop_b", "weight_dtype",
    "kv_dtype")}}
scene = [row for row in measured_rows if all(row[k] == measured_rows[0][k] for k in ("model", "context", "batch"))]
mixed = make_run("mixed", [*({**row, "model": "it's a<b>&\"c\"</script>"} for row in scene), *measured_rows[1:3],
                           {**skipped, "id": "too-large", "status": "skipped", "reason": "does not fit <memory>"},
                           {**skipped, "id": "wrong", "status": "wrong", "reason": "logits: 0.5 > 0.01"}],
                 json.dumps({**run_json, "complete": False}))
written(mixed)
many = make_run("many", [*measured_rows, *({**skipped, "id": f"no-{i}", "status": "skipped",
                                            "reason": f"{i} of {i * 7} GiB" + " in sum" * (i % 30)} for i in range(3000))])
written(many, "--quiet")
page = (many / "report.html").read_text()
assert page.count("<td>skipped</td>") == 25 and "Another 500 rows for 5 rarer reasons" in page, "a page, not a list"
nothing = make_run("nothing", [{**skipped, "id": "too-large", "status": "skipped", "reason": "does not fit"}])
assert written(nothing).stdout.split() == [f"{nothing}/report.html"]
older = [{key: value for key, value in row.items() if not key.startswith(("model_merge", "kv_dup"))}
         for row in measured_rows]
written(make_run("older", older), "--quiet")
passed += 1

# Without Python the page is there, and one line says what is not.
for python, needle in (("/none", "no Python '/none'"), (shutil.which("false"), "failed")):
    lone = written(MEASURED, "--out", f"lone{needle[:2]}", HELIX_PLOT_PYTHON=python)
    assert len(lone.stdout.splitlines()) == 1 and len(lone.stderr.splitlines()) == 1, lone
    assert needle in lone.stderr and "SVG and PNG" in lone.stderr, lone.stderr
passed += 1


# --- What is refused ---------------------------------------------------------------------------------------------------
def refused(needles, *arguments):
    done = run(*arguments)
    assert done.returncode == 2 and not done.stdout, (arguments, done)
    assert len(done.stderr.splitlines()) == 1 and all(n in done.stderr for n in needles), (arguments, done.stderr)


def changed(name, **values):
    return make_run(name, [measured_rows[0], {**measured_rows[1], **values}])


refused(["RUN"])
refused(["none", "run directory"], scratch / "none")
refused(["run directory"], scratch)
refused(["line 3", "ttl_us"], changed("nan", ttl_us="nan"))
refused(["line 3", "ttl_us"], changed("negative", ttl_us="-1"))
refused(["line 3", "kvp", "from 1"], changed("width", kvp="0"))
refused(["line 3", "batch"], changed("batch", batch="many"))
refused(["line 3", "strategy"], changed("strategy", strategy="best"))
refused(["line 3", "ok row"], changed("empty", **{key: "" for key in measured_rows[0] if key.endswith("_us") or
                                                  key in ("samples", "ttl_rel_stderr", "stop_reason", "bound") or
                                                  "bytes" in key or "share" in key or key.startswith("kv_tokens") or
                                                  key in ("max_batch", "kv_duplication", "tokens_per_s_user",
                                                          "tokens_per_s_gpu")}))
refused(["column 'batch'"], make_run("column", [{k: v for k, v in measured_rows[0].items() if k != "batch"}]))
torn = make_run("torn", measured_rows)
(torn / "results.csv").write_text((torn / "results.csv").read_text() + "a,b\n")
refused(["line 18", "2 fields"], torn)
headless = make_run("headless", measured_rows)
(headless / "results.csv").write_text("")
refused(["is empty"], headless)
refused(["run.json"], make_run("json", measured_rows, "{"))
(make_run("no-json", measured_rows) / "run.json").unlink()
refused(["run.json"], scratch / "no-json")
(scratch / "file").write_text("")
refused(["--out"], MEASURED, "--out", "file/below")
refused(["no-such"], MEASURED, "--no-such")
passed += 1

# --- The page in a browser ---------------------------------------------------------------------------------------------
if not browser.find():
    print(f"{passed} passed, 0 failed; no browser, so the page was not looked at: scripts/install_deps.sh test installs it")
    sys.exit(77)

# Of each plot the marks, and each text with what is wrong with it: cut off, over another one, too faint to read.
LOOK = """(() => {
  const luminance = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  const plots = {}, problems = [];
  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg.marks"), frame = svg.getBoundingClientRect();
    const shapes = kind => [...svg.querySelectorAll(".mark-" + kind + ":not(.role-legend-symbol) path")]
      .filter(path => path.getBoundingClientRect().width > 0 && path.getAttribute("aria-roledescription") != "axis");
    const texts = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim() && getComputedStyle(t).opacity > 0);
    const boxes = texts.map(t => t.getBoundingClientRect());
    texts.forEach((text, i) => {
      const box = boxes[i], label = figure.id + ": '" + text.textContent + "'";
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 ||
          box.bottom > frame.bottom + 1) problems.push(label + " is cut off");
      const cell = [...svg.querySelectorAll(".mark-rect.role-mark path")].map(c => [c, c.getBoundingClientRect()])
        .find(([c, r]) => figure.id == "plot-crossover" && r.left <= box.left && r.right >= box.right && r.top <= box.top &&
                          r.bottom >= box.bottom);
      const ground = cell ? getComputedStyle(cell[0]).fill : paper;
      if (!(contrast(getComputedStyle(text).fill, ground) >= 4.5)) problems.push(label + " is faint on " + ground);
      for (let j = 0; j < i; ++j) {
        const over = boxes[j], width = Math.min(box.right, over.right) - Math.max(box.left, over.left),
              height = Math.min(box.bottom, over.bottom) - Math.max(box.top, over.top);
        // Boxes are as high as a line of text with its descenders: neighbours may touch.
        if (width > 1 && height > 3) problems.push(label + " lies over '" + texts[j].textContent + "'");
      }
    });
    const marks = kind => [...svg.querySelectorAll(".mark-" + kind + ".role-mark path")];
    plots[figure.id] = {
      symbols: marks("symbol").length,
      // Pale marks lie behind a frontier, and are small rather than hollow.
      filled: marks("symbol").filter(m => !["none", "transparent"].includes(m.getAttribute("fill")) &&
                                          Number(m.getAttribute("opacity") ?? 1) == 1).length,
      rects: marks("rect").length, lines: marks("line").length, titles: texts.map(t => t.textContent),
      legends: svg.querySelectorAll(".role-legend").length, svgs: figure.querySelectorAll("svg.marks").length};
  }
  return {plots, problems, paper, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth};
})()"""


def look(page, name, scheme):
    page.prefer(scheme)
    page.open(scratch / name / "report.html")
    page.wait_for(f"document.readyState == 'complete' && document.documentElement?.dataset.drawn == '{scheme}'")
    if screenshots:
        page.screenshot(pathlib.Path(screenshots) / f"{name}-{scheme}.png")
    seen = page.evaluate(LOOK)
    assert not page.errors, (name, page.errors)
    assert page.requests == [(scratch / name / "report.html").as_uri()], page.requests
    assert not seen["problems"], (name, scheme, seen["problems"][:12], len(seen["problems"]))
    assert seen["wide"] <= 0, f"{name} is {seen['wide']} pixels too wide"
    assert all(plot["svgs"] == 1 for plot in seen["plots"].values()), "the picture is still beside the plot"
    return seen


def ok(rows):
    return [row for row in rows if row["status"] == "ok"]


with browser.Browser(1366, 768) as page:  # a laptop
    papers = set()
    for scheme in ("light", "dark"):
        seen = look(page, "measured", scheme)
        papers.add(seen["paper"])
        plots, rows = seen["plots"], ok(measured_rows)
        assert list(plots) == ["plot-answer", "plot-pareto", "plot-roofline", "plot-phases", "plot-crossover"]
        assert plots["plot-roofline"]["symbols"] == 2 * len(rows) and plots["plot-roofline"]["filled"] == len(rows)
        scenes = {(row["model"], row["context"], row["strategy"]) for row in rows}
        assert plots["plot-pareto"]["lines"] == 2 * len(scenes), "a measured and a predicted frontier of each strategy"
        assert plots["plot-pareto"]["symbols"] == 2 * len(rows)
        fields = {(row["model"], row["context"], row["batch"]) for row in rows}
        assert plots["plot-crossover"]["rects"] == len(fields)
        assert plots["plot-phases"]["rects"] >= 2 * 5 * len(rows) + len(rows), "bars and ticks"
        assert all(plot["legends"] for plot in plots.values())
        for plot, titles in (("plot-pareto", ["tokens/s per user", "tokens/s per rank (CPU)", "measured", "model"]),
                             ("plot-phases", ["ms per decode step (full: measured, faint: model)", "attention", "all-reduces"]),
                             ("plot-roofline", ["roofline TTL / TTL (filled: measured, hollow: model)", "100%"]),
                             ("plot-crossover", ["context, tokens", "batch, requests", "64K"])):
            assert set(titles) <= set(plots[plot]["titles"]), (plot, plots[plot]["titles"])
    assert len(papers) == 2, papers

    # Hovering gives the configuration; a reader who changes the colours while looking gets new plots.
    at = page.evaluate("""(() => {
      const mark = [...document.querySelectorAll("#plot-pareto .mark-symbol.role-mark path")].at(-1);
      mark.scrollIntoView({block: "center", behavior: "instant"});  // no mouse reaches what is below the window
      const box = mark.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    page.move_mouse(at[0] - 3, at[1] - 3)
    page.move_mouse(*at)
    page.wait_for("document.querySelector('#vg-tooltip-element.visible')?.textContent.includes('KVP')")
    page.prefer("light")
    page.wait_for("document.documentElement.dataset.drawn == 'light'")
    assert page.evaluate(LOOK)["problems"] == []

    plots = look(page, "predicted", "light")["plots"]
    with open(PREDICTED / "crossover.csv", newline="") as file:
        assert plots["plot-crossover"]["rects"] == len(list(csv.DictReader(file)))
    assert plots["plot-pareto"]["filled"] == 0, "nothing of a prediction is measured"
    several = look(page, "several", "dark")["plots"]
    with open(ONE_SCENE / "crossover.csv", newline="") as file:
        largest = [row for row in csv.DictReader(file) if row["ranks"] == "64"]
    assert several["plot-crossover"]["rects"] == len(fields) + len(largest), "maps of different ranks beside one another"
    assert {"default-2-cores", "predict-helix-fig5"} <= set(several["plot-pareto"]["titles"])
    look(page, "own", "light")
    mixed_plots = look(page, "mixed", "light")["plots"]
    assert mixed_plots["plot-crossover"]["rects"] == 1
    text = page.evaluate("document.body.innerText")
    assert 'it\'s a<b>&"c"</script>' in text and "does not fit <memory>" in text and "logits: 0.5" in text
    assert "broken off" in text
    assert look(page, "nothing", "light")["plots"] == {}
passed += 1
print(f"{passed} passed, 0 failed")
