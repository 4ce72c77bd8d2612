"""Kills runner and stages (-9) at random moments while a pipeline runs, and starts the same command again, until as many
kills as asked for came in time. Each time the pipeline ends, its content ids must be those of a run left in peace, and
`rote verify` must find the store whole; then it begins again in an empty store.

    cargo build && python3 tests/kills.py [--pipeline pipelines/demo.toml] [--kills 200] [--seed 1] [--parts 32]

With `--parts` what works request by request is made in so many parts, so that less is lost with each kill.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROTE = Path("target/debug/rote")


def contents(store):
    return {
        link.name: json.loads((link / "artifact.json").read_text())["content_id"]
        for link in sorted(store.glob("view/*/*"))
        if (link / "artifact.json").exists()
    }


def children(parent):
    tasks = Path(f"/proc/{parent}/task")
    try:
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="pipelines/demo.toml")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", type=int, help="as of rote run")
    parser.add_argument("--peace", type=Path, help="store where such a run ended; one is made here by default")
    parser.add_argument("--pause", type=float, default=2.5, help="mean seconds to a kill, at first")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    os.chdir(Path(__file__).parent.parent)
    work = Path(tempfile.mkdtemp(prefix="rote-kills-"))
    parts = ["--parts", str(arguments.parts)] if arguments.parts else []
    run = lambda store: [str(ROTE), "run", arguments.pipeline, "--store", str(store), "--quiet"]  # noqa: E731
    peace = arguments.peace or work / "peace"
    if not arguments.peace:
        subprocess.run(run(peace), check=True, stdout=subprocess.DEVNULL)
    expected = contents(peace)
    command = run(work / "store") + parts

    kills, runners, ends, known, pause = 0, 0, 0, 0, arguments.pause
    while kills < arguments.kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            process.wait(chance.expovariate(1 / pause))
        except subprocess.TimeoutExpired:
            stages = children(process.pid)
            victim = chance.choice(stages) if stages and chance.random() < 0.5 else process.pid
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            kills += process.returncode != 0
            # Long nodes and parts need longer peace to be done at all.
            done = len(list((work / "store").glob("*/*/artifact.json")))
            known, pause = done, arguments.pause if done > known else pause * 1.3
            runners += victim == process.pid
            if kills % 10 == 0:
                print(f"{kills} kills, {ends} runs ended as they should", file=sys.stderr, flush=True)
        if process.returncode == 0:
            ends, known = ends + 1, 0
            found = contents(work / "store")
            if found != expected:
                differ = sorted(name for name in expected if found.get(name) != expected[name])
                sys.exit(f"after {kills} kills: {', '.join(differ)} differ; see {work}")
            subprocess.run([str(ROTE), "verify", "--store", str(work / "store")], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(work / "store")
            print(f"{kills} kills, run {ends} ended as it should", file=sys.stderr, flush=True)
        elif process.returncode > 0 and "killed" not in (message := process.stderr.read()) and "signal" not in message:
            sys.exit(f"after {kills} kills the runner said:\n{message}")
    while subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        time.sleep(1)
    if contents(work / "store") != expected:
        sys.exit(f"after {kills} kills the contents differ; see {work}")
    subprocess.run([str(ROTE), "verify", "--store", str(work / "store")], check=True, stdout=subprocess.DEVNULL)
    print(f"{kills} kills, {runners} of the runner; {len(expected)} content ids as of a run left in peace, {ends + 1} times")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
