"""Runs `coracle sim`, for the tests beside this file."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
# With marks and mutants, and with sanitizers; neither is the release.
SIMULATOR = os.environ.get("CORACLE_SIMULATOR", str(ROOT / "build" / "sim" / "coracle"))
CHECKED = os.environ.get("CORACLE_BINARY_CHECKED", str(ROOT / "build" / "debug" / "coracle"))
RELEASE = os.environ.get("CORACLE_BINARY", str(ROOT / "build" / "release" / "coracle"))
QUICK = os.environ.get("CORACLE_TEST_QUICK") is not None

CLEAN, MISSED, USAGE, VIOLATED, STUCK, CRASHED = range(6)

SANITIZERS = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_leaks=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


class Outcome:
    def __init__(self, process):
        self.code = process.returncode
        self.out = process.stdout
        self.err = process.stderr

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit code {self.code}\n{self.out[-6000:]}\n{self.err[-3000:]}"


def sim(*options, binary=SIMULATOR):
    """Runs it from the repo's root, to its end."""
    return Outcome(
        subprocess.run(
            [binary, "sim", *map(str, options)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=ROOT,
            env={**os.environ, **SANITIZERS},
        )
    )
