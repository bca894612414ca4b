#!/usr/bin/env python3
"""The seeds that every change must pass: a thousand of all kinds, those of past failures, and three replicas, each twice."""

import unittest

import simulator
from simulator import CLEAN, sim


class Seeds(unittest.TestCase):
    def assert_clean(self, outcome):
        self.assertEqual(outcome.code, CLEAN, outcome)
        print(outcome.out)

    def test_a_thousand_seeds_and_every_mark(self):
        """Sixty simulated seconds each, and a load drawn between 0 and 200 operations a second."""
        marks = [] if simulator.QUICK else ["--require-marks"]
        self.assert_clean(sim(f"--seeds={50 if simulator.QUICK else 1000}", "--seconds=60", "--marks", *marks))

    def test_past_failures(self):
        self.assert_clean(sim("--seed-file=test/data/sim/regressions.seeds"))

    def test_three_replicas_and_ten_thousand_writes_twice(self):
        seeds = 10 if simulator.QUICK else 200
        outcome = sim(
            *[f"--seeds={seeds}", "--first=500001", "--nodes=3", "--writes=10000", "--load=600", "--seconds=600"],
            *["--twice", "--json"],
        )
        self.assert_clean(outcome)
        self.assertGreaterEqual(outcome.json()["writes"], seeds * 10000)

    def test_with_sanitizers(self):
        seeds = 4 if simulator.QUICK else 12
        outcome = sim(f"--seeds={seeds}", "--first=700001", "--seconds=15", binary=simulator.CHECKED)
        self.assert_clean(outcome)


if __name__ == "__main__":
    unittest.main()
