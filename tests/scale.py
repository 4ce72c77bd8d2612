"""Nothing to do on 1 000 stages and 10 000 files: rote, and where they are installed dvc and snakemake on an equal graph.

    python3 tests/scale.py [FOLDER]      (after `cargo build` and one `cargo test --test runner`)

250 columns of four stages: ten texts are read and cut (ten files), filtered twice (ten files each), counted (one file).
The stages are the stand-ins of the tests; what is timed is how long an engine takes to see that nothing has to run.
Each engine is timed three times in turn; the least counts, since other work on the machine only adds. Processor time is
given too, which other work hardly changes.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

COLUMNS, FILES = 250, 10
target = pathlib.Path(__file__).resolve().parent.parent / "target/debug"
folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(dir=target))
folder.mkdir(exist_ok=True)
os.chdir(folder)

bin_ = pathlib.Path("bin")
bin_.mkdir(exist_ok=True)
for name, source in [("rote", "rote")] + [(f"rote-{stage}", "stand-in") for stage in ("prepare", "extract", "score")]:
    (bin_ / name).unlink(missing_ok=True)
    shutil.copy2(target / source, bin_ / name)

pipeline, stages, rules = [], [], []
for column in range(COLUMNS):
    texts = pathlib.Path(f"texts/{column:03}")
    texts.mkdir(parents=True, exist_ok=True)
    for file in range(FILES):
        (texts / f"{file}.txt").write_text(f"line {file} of column {column}\n")
    pipeline.append(f'[p{column}]\nstage = "prepare"\nsequences = "{texts}"\nprefix = 40\n')
    pipeline.append(f'[e{column}]\nstage = "extract"\nrequests = "p{column}.request"\nmin = 1\n')
    pipeline.append(f'[f{column}]\nstage = "extract"\nrequests = "e{column}.request"\nmin = 2\n')
    pipeline.append(f'[s{column}]\nstage = "score"\nrequests = "f{column}.request"\nletter = ["a"]\n')
    before = [str(texts / f"{file}.txt") for file in range(FILES)]
    for layer, outputs in (("p", FILES), ("e", FILES), ("f", FILES), ("s", 1)):
        after = [f"out/{layer}{column}/{file}" for file in range(outputs)]
        stages.append((f"{layer}{column}", before, after))
        before = after
pathlib.Path("scale.toml").write_text("\n".join(pipeline))

everything = [file for _, before, after in stages for file in before + after]
print(f"{len(stages)} stages, {len(set(everything))} files", flush=True)
began = time.perf_counter()
subprocess.run(["bin/rote", "run", "scale.toml", "--quiet"], check=True, stdout=subprocess.DEVNULL)
print(f"rote run, everything: {time.perf_counter() - began:.1f} s", flush=True)
# Digests of files that changed a moment ago are not remembered.
time.sleep(2.5)
commands = {"rote": ["bin/rote", "run", "scale.toml"]}
subprocess.run(commands["rote"], check=True, capture_output=True)

# The same graph with plain files, made beforehand: what the others have to look at.
for name, before, after in stages:
    for index, file in enumerate(after):
        pathlib.Path(file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(before[min(index, len(before) - 1)], file)
if shutil.which("snakemake"):
    quoted = lambda files: ", ".join(f'"{file}"' for file in files)
    text = f"rule all:\n    input: {quoted(file for _, _, after in stages for file in after)}\n"
    for name, before, after in stages:
        text += f"rule {name}:\n    input: {quoted(before)}\n    output: {quoted(after)}\n    shell: \"true\"\n"
    pathlib.Path("Snakefile").write_text(text)
    commands["snakemake"] = ["snakemake", "-n", "--quiet"]
if shutil.which("dvc"):
    listed = lambda files: "".join(f"    - {file}\n" for file in files)
    text = "stages:\n"
    for name, before, after in stages:
        text += f"  {name}:\n    cmd: 'true'\n    deps:\n{listed(before)}    outs:\n{listed(after)}"
    pathlib.Path("dvc.yaml").write_text(text)
    if not pathlib.Path(".dvc").exists():
        subprocess.run(["dvc", "init", "--no-scm", "--quiet"], check=True)
    subprocess.run(["dvc", "commit", "--force", "--quiet"], check=True)
    commands["dvc"] = ["dvc", "status"]



def run(command):
    """Seconds on the clock, seconds of processor time, and what was said."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    clock, after = time.perf_counter() - began, os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return clock, processor, done.stdout + done.stderr


times = {name: [] for name in commands}
for _ in range(3):
    for name, command in commands.items():
        *taken, told = run(command)
        times[name].append(taken)
        nothing = {"rote": "nothing to do", "snakemake": "", "dvc": "up to date"}[name]
        assert nothing in told, f"{name}: {told[-2000:]}"
least = {name: [min(column) for column in zip(*taken)] for name, taken in times.items()}
for name, (clock, processor) in least.items():
    ratios = clock / least["rote"][0], processor / least["rote"][1]
    print(
        f"{name:10} {clock:7.3f} s on the clock, {processor:7.3f} s of processor time: "
        f"{ratios[0]:.1f} and {ratios[1]:.1f} times rote's"
    )

if shutil.which("b3sum"):
    # Processor time, which other work on the machine does not change; both read the file through the page cache.
    pathlib.Path("large.bin").write_bytes(os.urandom(1 << 20) * 1024)
    pathlib.Path("large.toml").write_text('[prepare]\nsequences = "large.bin"\n')

    pairs = [(run(["b3sum", "large.bin"])[1], run(["bin/rote", "plan", "large.toml"])[1]) for _ in range(5)]
    b3sum, rote = (min(times) for times in zip(*pairs))
    print(f"hashing 1 GiB: b3sum {b3sum:.2f} s, rote {rote:.2f} s of processor time: {b3sum / rote:.0%} of its rate")
    pathlib.Path("large.bin").unlink()
