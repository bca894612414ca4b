#!/usr/bin/env python3
"""Every bug that is put in on purpose is found: by the seed recorded for it, and where that one draws other things by now, by one of a
thousand others. A few fresh seeds run in any case. `./dev mutants` looks for all of them in a thousand seeds."""

import subprocess
import sys
import unittest

import simulator

FRESH = 2 if simulator.QUICK else 5
SEEDS = 1000


class Mutants(unittest.TestCase):
    def test_every_mutant_is_caught(self):
        process = subprocess.run(
            [sys.executable, "-B", "tools/mutants.py", "--simulator", simulator.SIMULATOR]
            + [f"--bounded={FRESH}", f"--seeds={SEEDS}"],
            cwd=simulator.ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        print(process.stdout)
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)


if __name__ == "__main__":
    unittest.main()
