#!/usr/bin/env python3
"""The sweeps: each byte of the last batch torn, each byte of a small log, raft state and snapshot flipped, each disk operation failed.

Here, every so manieth case; `./dev sweeps --full` runs all.
"""

import pathlib
import re
import subprocess
import unittest

import simulator

# Sweeps in which a cluster must sometimes refuse to serve, or a node end; the others must notice damage at least.
HALTS = {"flip-leader-dies", "flip-everywhere", "error-change", "error-look"}
NOTICES = {"flip-log", "flip-state", "flip-snapshot", "flip-both-slots", "flip-large"}


def sweeps(binary, *options):
    return subprocess.run(
        [pathlib.Path(binary).parent / "sim_sweeps", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**simulator.os.environ, **simulator.SANITIZERS},
    )


class Sweeps(unittest.TestCase):
    def assert_clean(self, done):
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-3000:])

    def test_all(self):
        done = sweeps(simulator.SIMULATOR)
        print(done.stdout)
        self.assert_clean(done)
        rows = re.findall(
            r"^ok +(\S+) +(\d+) of +(\d+) cases, 0 wrong; (\d+) noticed, (\d+) halted", done.stdout, re.MULTILINE
        )
        names = {row[0] for row in rows}
        self.assertGreaterEqual(names, HALTS | NOTICES)
        self.assertGreaterEqual(len(names), 18)
        for name, ran, cases, noticed, halted in rows:
            self.assertGreater(int(ran), 0, name)
            self.assertGreaterEqual(int(cases), int(ran), name)
            if name in HALTS:
                self.assertGreater(int(halted), 0, name)
            if name in NOTICES:
                self.assertGreater(int(noticed), 0, name)

    def test_with_sanitizers(self):
        self.assert_clean(sweeps(simulator.CHECKED, "--quick", "--part", "1/4"))

    def test_bad_input(self):
        for options in (["--nonsense"], ["no-such-sweep"], ["--case", "1"], ["torn-all", "--case", "x"], ["--part", "3/2"]):
            done = sweeps(simulator.SIMULATOR, *options)
            self.assertEqual(done.returncode, 2, options)
            self.assertIn("usage: sweeps", done.stderr)
        done = sweeps(simulator.SIMULATOR, "torn-all", "--case", "99999999")
        self.assertEqual(done.returncode, 2)
        self.assertIn("cases", done.stderr)


if __name__ == "__main__":
    unittest.main()
