#!/usr/bin/env python3
"""`helix-bench compare` as users and CI call it: two real sweeps of a tiny model, copied and perturbed.
compare.py HELIX_BENCH MPIRUN"""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

program, mpirun = sys.argv[1:3]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}
scratch = pathlib.Path(tempfile.mkdtemp())


def call(command):
    return subprocess.run(command, cwd=scratch, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120)


def compare(*arguments, expect):
    done = call([program, "compare", *map(str, arguments)])
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    assert expect == 2 or not done.stderr, done.stderr
    return done.stdout


def refused(*arguments, says):
    done = call([program, "compare", *map(str, arguments)])
    assert done.returncode == 2 and not done.stdout, (arguments, done)
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("helix-bench: "), done.stderr
    for needle in says:
        assert needle in done.stderr, (needle, done.stderr)


def rewrite(path, change):
    """Applies `change` to the rows (dicts) of a CSV file; what it returns is kept."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        header, rows = reader.fieldnames, list(reader)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in map(change, rows) if row is not None)


def copy(run, name):
    shutil.rmtree(scratch / name, ignore_errors=True)
    shutil.copytree(scratch / run, scratch / name)
    return scratch / name


def scaled(run, name, factors):
    """A copy whose samples are multiplied by a row's factor."""
    directory = copy(run, name)
    rewrite(directory / "samples.csv",
            lambda row: {**row, "ttl_us": f"{float(row['ttl_us']) * factors.get(row['id'], 1.0):.7g}"})
    return name


def with_run_json(run, name, change):
    path = copy(run, name) / "run.json"
    provenance = json.loads(path.read_text())
    change(provenance)
    path.write_text(json.dumps(provenance))
    return name


# Two real runs, one of them with a row that the other has not.
for name, batches in (("one", "1,3"), ("two", "1,2,3")):
    done = call([mpirun, "-n", "2", program, "--model", "tiny-gqa", "--context", "300", "--batch", batches,
                 "--max-time", "0.05", "--system", "h100", "--quiet", "--out", name])
    assert done.returncode == 0, done.stderr
ids = [row["id"] for row in csv.DictReader(open(scratch / "one/results.csv"))]
# Whether runs a second apart differ is the machine's business; that both can be compared is ours.
done = call([program, "compare", "one", "two"])
assert done.returncode == 1 and "not in BASE" in done.stdout and "--allow-unjudged" in done.stdout, done

# From here on the noise is known: a busy machine leaves some rows few samples, and scattered ones.
firsts = {}
for row in csv.DictReader(open(scratch / "one/samples.csv")):
    firsts.setdefault(row["id"], float(row["ttl_us"]))
(scratch / "one/samples.csv").write_text("id,sample,ttl_us\n" + "".join(
    f"{name},{i},{first * (1 + 1e-3 * (i % 7) + 1e-6 * i):.7g}\n" for name, first in firsts.items() for i in range(30)))

# A run against itself, and against itself slowed down.
table = compare("one", "one", expect=0)
assert "no regression: 4 unchanged (4 rows)" in table.splitlines()[-1], table
slower = scaled("one", "slower", {ids[1]: 1.25, ids[2]: 0.75})
assert "REGRESSION: 1 regressed, 1 improved, 2 unchanged" in compare("one", slower, expect=1)
verdicts = json.loads(compare("--json", "one", slower, expect=1))
assert verdicts["regression"] and verdicts["counts"]["regressed"] == 1
by_id = {row["id"]: row for row in verdicts["rows"]}
assert by_id[ids[1]]["verdict"] == "regressed" and abs(by_id[ids[1]]["change_percent"] - 25) < 0.01
assert by_id[ids[2]]["verdict"] == "improved" and by_id[ids[0]]["verdict"] == "unchanged"
assert by_id[ids[1]]["change_after_shift_percent"] is not None and by_id[ids[0]]["detectable_percent"] > 0
assert compare("one", slower, "--threshold", "30", "--quiet", expect=0) == ""
compare("one", scaled("one", "slightly", {ids[1]: 1.05}), expect=0)  # two runs may differ by that
compare("one", "slightly", "--run-noise", "2", expect=1)
assert "regressed" in compare("one", slower, "--threshold", "20%", expect=1)
compare("one", slower, "--floor-us", "1e9", expect=0)
compare(scratch / "one", scratch / "slower", "--alpha", "1e-9", expect=1)

# Outputs: one on standard output instead of the table, or in files beside it.
assert compare("one", slower, "--markdown", expect=1).startswith("### helix-bench: REGRESSION")
assert compare("one", slower, "--csv", "-", expect=1).startswith("id,verdict,reason,")
table = compare("one", slower, "--json", "o.json", "--junit=o.xml", "--benchmark-action", "o.bench.json",
                "--markdown", "o.md", expect=1)
assert table.startswith("verdict ") and json.loads((scratch / "o.json").read_text()) == verdicts
suites = xml.etree.ElementTree.parse(scratch / "o.xml").getroot()
suite = suites.find("testsuite")
assert suites.tag == "testsuites" and suite.attrib["tests"] == "4" and suite.attrib["failures"] == "1"
assert [case.attrib["name"] for case in suite.iter("testcase") if case.find("failure") is not None] == [ids[1]]
entries = json.loads((scratch / "o.bench.json").read_text())
assert {entry["name"] for entry in entries} == set(ids)
assert all(entry["unit"] == "us" and entry["value"] > 0 for entry in entries)
refused("one", slower, "--json", "--junit", says=["--json", "--junit"])
refused("one", slower, "--json", "no/such/directory/o.json", says=["no/such/directory"])

# Rows that failed, were skipped, or are not there.
def as_status(status, reason):
    return lambda row: {**row, "status": status, "reason": reason} if row["id"] == ids[0] else row


rewrite(copy("one", "wrong") / "results.csv", as_status("wrong", "logits, off by 1"))
assert "logits, off by 1" in compare("one", "wrong", expect=1)
compare("wrong", "wrong", expect=1)
rewrite(copy("one", "skipped") / "results.csv", as_status("skipped", "does not fit"))
assert "NOT JUDGED: 1 newly skipped" in compare("one", "skipped", expect=1)
rewrite(copy("one", "fewer") / "results.csv", lambda row: None if row["id"] == ids[0] else row)
for allowed in ([], ["--allow-unjudged"]):
    assert "1 missing" in compare("one", "fewer", *allowed, expect=1)
    assert "not in BASE" in compare("fewer", "one", *allowed, expect=0 if allowed else 1)
# Killed half-way: run.json does not say that it is complete.
for broken in (with_run_json("one", "killed", lambda run: run.update(complete=False)),
               with_run_json("fewer", "killed_early", lambda run: run.update(complete=False))):
    assert "incomplete" in compare("one", broken, expect=1)
    compare("one", broken, "--allow-unjudged", expect=1)
kept = {name: 0 for name in ids}


def first_eight(row):
    kept[row["id"]] += 1
    return row if kept[row["id"]] <= 8 else None


rewrite(copy("one", "short") / "samples.csv", first_eight)
assert "NOT JUDGED: 4 too few samples" in compare("one", "short", expect=1)
assert "--max-time" in compare("one", "short", expect=1)
compare("one", "short", "--allow-unjudged", expect=0)
suite = xml.etree.ElementTree.fromstring(compare("one", "short", "--junit", expect=1)).find("testsuite")
assert suite.attrib["failures"] == "4", suite.attrib

# Repeats, of which some are slow as a whole.
whole = {name: 1.2 for name in ids}
base = ["one"] + [scaled("one", f"base{i}", {name: 1.2 + i / 1e3 for name in ids} if i == 2 else {ids[0]: 1 + i / 1e3})
                  for i in range(1, 5)]
calm = [scaled("one", f"calm{i}", whole if i == 3 else {ids[0]: 1 + i / 1e3, ids[3]: 1.001}) for i in range(5)]
slow = [scaled(run, f"slow{i}", {ids[1]: 1.1}) for i, run in enumerate(calm)]
compare(base[0], calm[3], expect=1)  # a single slow run
compare(base[0], calm[0], "--base-repeat", *base[1:], "--new-repeat", *calm[1:], expect=0)
found = json.loads(compare(base[0], slow[0], "--base-repeat", *base[1:], "--head-repeat", *slow[1:], "--json",
                           expect=1))
assert [row["id"] for row in found["rows"] if row["verdict"] == "regressed"] == [ids[1]], found
assert len(found["base"]["directories"]) == len(found["new"]["directories"]) == 5

# Other machines are compared by roofline fraction alone.
other = with_run_json("one", "other", lambda run: run["host"].update(cpu="another cpu"))
refused("one", other, says=["host/cpu", "another cpu", "--force"])
forced = json.loads(compare("one", other, "--force", "--json", expect=0))
assert forced["compared"] == "roofline_fraction" and "base_roofline_fraction" in forced["rows"][0]
compare("one", with_run_json(slower, "slower_other", lambda run: run.update(device="another")), "--force", expect=1)

# What cannot be compared.
refused("one", with_run_json("one", "future", lambda run: run.update(schema_version=99)), "--force",
        says=["future/run.json", "99"])
refused("one", "nowhere", says=["nowhere"])
refused("one", says=["NEW"])
(scratch / "empty").mkdir()
refused("one", "empty", says=["empty/run.json"])
(copy("one", "damaged") / "run.json").write_text("{")
refused("damaged", "one", says=["damaged/run.json"])
(copy("one", "no_samples") / "samples.csv").write_text("id,sample,ttl_us\n")
refused("one", "no_samples", says=["no_samples/samples.csv", ids[0]])
(copy("one", "nan") / "samples.csv").write_text(f"id,sample,ttl_us\n{ids[0]},0,nan\n")
refused("one", "nan", says=["nan/samples.csv", "'nan'"])
(copy("one", "no_rows") / "results.csv").write_text((scratch / "one/results.csv").read_text().splitlines()[0] + "\n")
refused("one", "no_rows", says=["no_rows", "rows"])
(copy("one", "blank") / "results.csv").write_text("")
refused("one", "blank", says=["blank/results.csv", "empty"])
(copy("one", "gone") / "results.csv").unlink()
refused("one", "gone", says=["gone/results.csv"])
rewrite(copy("one", "renamed") / "results.csv", lambda row: {**row, "id": row["id"] + "x"})
(scratch / "renamed/samples.csv").write_text(
    (scratch / "one/samples.csv").read_text().replace("blk32", "blk32x"))
refused("one", "renamed", says=["no configuration"])
refused("one", "one", "--threshold", "many", says=["--threshold", "many"])
done = call([program, "predict", "--model", "tiny-gqa", "--system", "h100", "--quiet", "--out", "predicted"])
assert done.returncode == 0, done.stderr
refused("one", "predicted", says=["predicted", "sweep"])

# Micro-benchmarks: what Google Benchmark writes, its repetitions the samples.
def microbench(name, factor, repetitions=12, failing=()):
    entries = []
    for benchmark in ("gemm/1", "gemm/4", "attention"):
        if benchmark in failing:
            entries.append({"name": benchmark, "run_name": benchmark, "run_type": "iteration", "error_occurred": True,
                            "error_message": "no memory"})
            continue
        entries += [{"name": benchmark, "run_name": benchmark, "run_type": "iteration", "time_unit": "ns",
                     "real_time": 2e4 * (factor if benchmark == "gemm/4" else 1.0) * (1 + 2e-3 * ((i * 5) % 7))}
                    for i in range(repetitions)]
        entries.append({"name": benchmark + "_mean", "run_name": benchmark, "run_type": "aggregate",
                        "time_unit": "ns", "real_time": 9e9})
    (scratch / name).write_text(json.dumps({"context": {"host_name": "h", "num_cpus": 2}, "benchmarks": entries}))
    return name


before = microbench("before.json", 1.0)
assert "no regression: 3 unchanged" in compare("--microbench", before, microbench("again.json", 1.0), expect=0)
found = json.loads(compare("--microbench", before, microbench("after.json", 1.05), "--json", expect=1))
assert [row["id"] for row in found["rows"] if row["verdict"] == "regressed"] == ["gemm/4"], found
assert abs(found["rows"][0]["new_time_us"] / found["rows"][0]["base_time_us"] - 1.05) < 1e-4
assert "repetitions" in compare("--microbench", before, microbench("once.json", 1.0, 1), expect=1)
compare("--microbench", before, "once.json", "--allow-unjudged", expect=0)
assert "no memory" in compare("--microbench", before, microbench("failed.json", 1.0, failing=["attention"]), expect=1)
refused("--microbench", before, "one", says=["'one'"])
refused(before, "after.json", says=[before])
refused("--microbench", before, "nowhere.json", says=["nowhere.json"])
refused("--microbench", "--force", before, before, says=["--force"])

# Under a launcher rank 0 alone speaks.
done = call([mpirun, "-n", "2", program, "compare", "one", "one"])
assert done.returncode == 0 and done.stdout.count("no regression") == 1, done
shutil.rmtree(scratch)
print("1 passed, 0 failed")
