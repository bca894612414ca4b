#!/usr/bin/env python3
"""Every bug that is put in on purpose is found: by the seed recorded for it, and where that one draws other things by now, by
one of a thousand others. Some fresh seeds run in any case."""

import subprocess
import sys
import unittest

import simulator

FRESH = 3 if simulator.QUICK else 10


class Mutants(unittest.TestCase):
    def test_every_mutant_is_caught(self):
        process = subprocess.run(
            [sys.executable, "-B", "tools/mutants.py", "--simulator", simulator.SIMULATOR, f"--bounded={FRESH}"],
            cwd=simulator.ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        print(process.stdout)
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)


if __name__ == "__main__":
    unittest.main()
