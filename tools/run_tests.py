#!/usr/bin/env python3
"""Runs test programs, prints one line for each, and ends with the line `N passed, N failed`.

Tests come from two places, in the order of the arguments:
  --meson BUILD_DIR SUITE   the tests of a Meson build whose suite is SUITE, or SUITE-anything
  --python DIRECTORY        each test_*.py there, a unittest program
A program's own summary (cmocka's, unittest's, or a line `N passed, N failed`) gives its counts; a program
without one counts as a single test. What a failed program printed is shown, all of it is in --log-dir.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

TAIL_LINES = 60


@dataclasses.dataclass
class Test:
    name: str
    command: list
    environment: dict
    directory: str
    timeout_s: int
    alone: bool  # uses real ports and all of the machine, so it must not share it


@dataclasses.dataclass
class Outcome:
    passed: int
    failed: int
    skipped: int
    seconds: float
    reason: str  # empty when all is well
    output: str


def meson_tests(build_dir, suite):
    listing = subprocess.run(
        ["meson", "introspect", build_dir, "--tests"], check=True, capture_output=True, text=True
    ).stdout
    tests = []
    for test in json.loads(listing):
        # Meson gives each suite as "project:suite".
        suites = [name.split(":")[-1] for name in test["suite"]]
        matching = [name for name in suites if name == suite or name.startswith(suite + "-")]
        if not matching:
            continue
        tests.append(
            Test(
                name=f"{matching[0]}/{test['name']}",
                command=test["cmd"],
                environment=test["env"],
                directory=test["workdir"] or build_dir,
                timeout_s=test["timeout"],
                alone=False,
            )
        )
    return tests


def python_tests(directory):
    directory = pathlib.Path(directory)
    return [
        Test(
            name=f"{directory.name}/{path.stem.removeprefix('test_')}",
            command=[sys.executable, "-B", str(path), "-v"],
            environment={},
            directory=os.getcwd(),
            timeout_s=1500,
            alone=True,
        )
        for path in sorted(directory.glob("test_*.py"))
    ]


def counts_of(output, exit_code):
    """(passed, failed, skipped) as the program itself says, or one test by its exit code."""
    passed = failed = skipped = 0
    seen = False
    for match in re.finditer(r"^\[  (PASSED|FAILED)  \] (\d+) test\(s\)", output, re.MULTILINE):
        seen = True
        if match[1] == "PASSED":
            passed += int(match[2])
        else:
            failed += int(match[2])
    for match in re.finditer(r"^\[  SKIPPED \] (\d+) test\(s\)", output, re.MULTILINE):
        skipped += int(match[1])
    for match in re.finditer(r"^Ran (\d+) tests? in .*\n\n(OK|FAILED)(?: \((.*)\))?$", output, re.MULTILINE):
        seen = True
        details = dict(re.findall(r"([a-z ]+)=(\d+)", match[3] or ""))
        bad = int(details.get("failures", 0)) + int(details.get("errors", 0))
        left_out = int(details.get("skipped", 0))
        failed += bad
        skipped += left_out
        passed += max(0, int(match[1]) - bad - left_out)
    for match in re.finditer(r"^(\d+) passed, (\d+) failed$", output, re.MULTILINE):
        seen = True
        passed += int(match[1])
        failed += int(match[2])
    if not seen:
        return (1, 0, 0) if exit_code == 0 else (0, 1, 0)
    if exit_code != 0 and failed == 0:
        failed = 1  # it died after, or beside, the tests that it counted
    return passed, failed, skipped


def run(test, log_dir):
    started = time.monotonic()
    log_path = log_dir / (test.name.replace("/", "-") + ".log")
    reason = ""
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            test.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=test.directory,
            env={**os.environ, **test.environment},
            start_new_session=True,
        )
        try:
            exit_code = process.wait(timeout=test.timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            exit_code = process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            reason = f"killed after {test.timeout_s} s"
    output = log_path.read_text(errors="replace")
    passed, failed, skipped = counts_of(output, exit_code)
    if not reason and exit_code < 0:
        reason = f"killed by {signal.Signals(-exit_code).name}"
    elif not reason and failed:
        reason = f"{failed} failed, exit code {exit_code}"
    return Outcome(passed, failed, skipped, time.monotonic() - started, reason, output)


def report(test, outcome):
    word = "ok  " if outcome.failed == 0 else "FAIL"
    skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
    print(f"{word} {test.name:<40} {outcome.passed:>5} passed{skipped}  {outcome.seconds:6.1f} s", flush=True)
    if outcome.failed:
        lines = outcome.output.splitlines()
        if len(lines) > TAIL_LINES:
            print(f"     ... {len(lines) - TAIL_LINES} lines before")
        for line in lines[-TAIL_LINES:]:
            print("     " + line)
        print(f"     {outcome.reason}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meson", nargs=2, action="append", default=[], metavar=("BUILD_DIR", "SUITE"))
    parser.add_argument("--python", action="append", default=[], metavar="DIRECTORY")
    parser.add_argument("--filter", action="append", default=[], help="only tests whose name contains this")
    parser.add_argument("--log-dir", default="build/test-logs", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    options.log_dir.mkdir(parents=True, exist_ok=True)

    tests = [test for build_dir, suite in options.meson for test in meson_tests(build_dir, suite)]
    tests += [test for directory in options.python for test in python_tests(directory)]
    tests = [test for test in tests if not options.filter or any(text in test.name for text in options.filter)]

    passed = failed = 0
    shared = [test for test in tests if not test.alone]
    with concurrent.futures.ThreadPoolExecutor(max_workers=options.jobs) as pool:
        running = {pool.submit(run, test, options.log_dir): test for test in shared}
        for done in concurrent.futures.as_completed(running):
            outcome = done.result()
            report(running[done], outcome)
            passed, failed = passed + outcome.passed, failed + outcome.failed
    for test in tests:
        if not test.alone:
            continue
        outcome = run(test, options.log_dir)
        report(test, outcome)
        passed, failed = passed + outcome.passed, failed + outcome.failed

    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
