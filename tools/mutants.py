#!/usr/bin/env python3
"""Bugs put in on purpose (src/base/mutant.h): does a check of the simulator find each, and after how many seeds?

For each mutant it runs the seed that is recorded as catching it, and then fresh ones until one catches it. A mutant is caught
when a seed that is clean without it ends with a violation, gets stuck or crashes. Exit code 0: all are caught; 1: one is not, or a
seed isn't clean.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SEEDS_FILE = ROOT / "test" / "data" / "sim" / "mutants.seeds"
HEAD = """coracle-seeds 1
# For each mutant of src/base/mutant.h a seed that catches it. `./dev mutants --record` writes this file: a change of what seeds draw
# takes most of them away, and then they are found anew.
"""
CAUGHT = {3: "violated", 4: "stuck", 5: "crashed"}


@dataclasses.dataclass
class Run:
    code: int
    report: dict

    @property
    def caught(self):
        return self.code in CAUGHT

    @property
    def seed(self):
        return self.report["failures"][0]["seed"]

    @property
    def check(self):
        """What found it: the outcome, and the sentence without its numbers."""
        text = self.report["failures"][0]["text"].splitlines()[0]
        if self.code == 5:
            failed = re.search(r"check failed at (?:\.\./)*(\S+?:\d+: .*)", text)
            text = failed[1] if failed else text
        return f"{CAUGHT[self.code]}: {text}"


def simulate(simulator, mutant, *options):
    process = subprocess.run(
        [simulator, "sim", *([f"--mutant={mutant}"] if mutant else []), "--json", "--quiet", *map(str, options)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=ROOT,
    )
    if process.returncode not in (0, *CAUGHT):
        sys.exit(f"mutants: {' '.join(process.args)} ended with {process.returncode}:\n{process.stderr}")
    return Run(process.returncode, json.loads(process.stdout))


def catch(simulator, mutant, first, count, broken):
    """The first seed that only fails with the mutant; None: there is none. Those that fail without it go into `broken`."""
    end = first + count
    while first < end:
        run = simulate(simulator, mutant, f"--first={first}", f"--seeds={end - first}")
        if not run.caught:
            return None
        if run.seed not in broken:
            if not simulate(simulator, None, f"--seed={run.seed}").caught:
                return run
            broken.add(run.seed)
        first = run.seed + 1
    return None


def mutants_of(simulator):
    listing = subprocess.run([simulator, "sim", "--mutant=list"], check=True, capture_output=True, text=True).stdout
    return dict(line.split(maxsplit=1) for line in listing.splitlines())


def recorded():
    """Mutant to its line in the file of seeds."""
    lines = SEEDS_FILE.read_text().splitlines() if SEEDS_FILE.exists() else []
    return {match[1]: line for line in lines if (match := re.search(r"\bmutant=(\S+)", line.split("#")[0]))}


def cut(text, width):
    return text if len(text) <= width else text[: width - 1] + "…"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="MUTANT", help="only these, or those whose names contain it")
    parser.add_argument("--simulator", default=os.environ.get("CORACLE_SIMULATOR", "build/sim/coracle"))
    parser.add_argument("--seeds", type=int, default=1000, help="fresh seeds for each, at most (%(default)s)")
    parser.add_argument("--first", type=int, help="the first of them; drawn at random without it")
    parser.add_argument(
        "--bounded", type=int, metavar="N", help="where the recorded seed still catches it, only so many fresh ones"
    )
    parser.add_argument("--record", action="store_true", help="write the seeds that caught to test/data/sim/mutants.seeds")
    options = parser.parse_args()
    simulator = str((ROOT / options.simulator).resolve())

    texts = mutants_of(simulator)
    names = [name for name in texts if not options.names or any(part in name for part in options.names)]
    if not names:
        parser.error("no mutant has such a name")
    kept = recorded()
    first = options.first if options.first is not None else random.randrange(1_000_000, 2**32)
    print(f"fresh seeds from {first} on\n")
    print(f"{'mutant':<34} {'recorded':>9} {'seeds':>6} {'seconds':>8}  caught by")
    missed, broken = [], set()
    for name in names:
        began = time.monotonic()
        old = None
        if name in kept:
            old = simulate(simulator, name, f"--seed-file={SEEDS_FILE}")
        limit = options.seeds
        if old is not None and old.caught and options.bounded is not None:
            limit = options.bounded
        fresh = catch(simulator, name, first, limit, broken)
        found = fresh or (old if old is not None and old.caught else None)
        if found is None:
            missed.append(name)
        if fresh and (old is None or not old.caught):
            kept[name] = f"mutant={name} seed={fresh.seed} commit={fresh.report['commit']}"
        print(
            f"{name:<34} {'-' if old is None else 'yes' if old.caught else 'no':>9} "
            f"{fresh.seed - first + 1 if fresh else f'>{limit}':>6} "
            f"{time.monotonic() - began:8.1f}  {cut(found.check, 120) if found else 'NOTHING: ' + texts[name]}",
            flush=True,
        )
    print(f"\n{len(names) - len(missed)} of {len(names)} mutants are caught")
    if options.record:
        SEEDS_FILE.write_text(HEAD + "".join(kept[name] + "\n" for name in texts if name in kept))
    if missed:
        print("not caught: " + ", ".join(missed))
    if broken:
        print("seeds that fail without a mutant, too: " + ", ".join(map(str, sorted(broken))))
    return 1 if missed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
