#!/usr/bin/env python3
"""Holds the includes of roofline/, kernels/, sweeps/ and bench/ to the arrows that HACKING.md's table allows: a folder sees
itself and what it builds on, directly or not, and there are no circles.
arrows.py SOURCE_DIR"""
import pathlib
import re
import sys

TOPS = ("roofline", "kernels", "sweeps", "bench")
ROW = re.compile(r"^\| `([a-z_/]+)` \|.*\|([^|]*)\|$", re.M)
INCLUDE = re.compile(r'^#include "((?:%s)/[^"]+)"' % "|".join(TOPS), re.M)


def arrows(text):
    """{folder: the folders it builds on} of the table's rows `| `folder` | what it holds | `a`, `b` |`."""
    return {folder: re.findall(r"`([a-z_/]+)`", builds_on) for folder, builds_on in ROW.findall(text)
            if folder.split("/")[0] in TOPS}


def reachable(table):
    """{folder: all it may see}; raises on a circle and on a folder that the table does not have."""
    seen = {}

    def visit(folder, path):
        if folder in path:
            raise ValueError("a circle: " + " -> ".join([*path, folder]))
        if folder not in table:
            raise ValueError(f"{path[-1]} builds on {folder}, which has no row")
        if folder not in seen:
            seen[folder] = {folder}.union(*(visit(below, [*path, folder]) for below in table[folder]))
        return seen[folder]

    for folder in table:
        visit(folder, [])
    return seen


def faults(table, includes):
    """What of (file, included file) goes against the table."""
    allowed, found = reachable(table), []
    for file, included in includes:
        folder, target = str(pathlib.PurePosixPath(file).parent), str(pathlib.PurePosixPath(included).parent)
        if folder not in allowed:
            found.append(f"{file}: {folder} has no row in HACKING.md's table")
        elif target not in allowed[folder]:
            found.append(f"{file} includes {included}: {folder} does not build on {target}")
    return found


def self_test():
    table = {"roofline/a": [], "roofline/b": ["roofline/a"], "kernels/c": ["roofline/b"]}
    assert not faults(table, [("kernels/c/x.cpp", "roofline/a/y.hpp"), ("roofline/a/x.cpp", "roofline/a/y.hpp")])
    assert len(faults(table, [("roofline/a/x.hpp", "roofline/b/y.hpp"), ("kernels/d/x.cpp", "roofline/a/y.hpp")])) == 2
    for wrong in ({"a": ["b"], "b": ["a"]}, {"a": ["b"]}):
        try:
            reachable(wrong)
        except ValueError:
            continue
        raise AssertionError(wrong)


def main():
    self_test()
    root = pathlib.Path(sys.argv[1])
    table = arrows((root / "HACKING.md").read_text())
    sources = [path for top in TOPS for path in sorted((root / top).rglob("*")) if path.suffix in (".hpp", ".cpp", ".cu", ".cuh")]
    includes = [(str(path.relative_to(root)), included) for path in sources for included in INCLUDE.findall(path.read_text())]
    assert len(table) > 20 and len(includes) > 300, "the table or the sources were not found"
    found = faults(table, includes)
    print("\n".join(found) or f"{len(includes)} includes follow the {len(table)} folders' arrows")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
