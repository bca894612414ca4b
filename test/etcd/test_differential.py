#!/usr/bin/env python3
"""Coracle and a real etcd, sent the same random requests, answer the same.

All go through one follower, which hands on to the leader what changes something: a member that answered a write shows it to any later read.
CORACLE_ETCD_SEED and CORACLE_ETCD_OPERATIONS choose the sequence; the test prints the seed when it chose one.
"""

import os
import unittest

import coracle

# As many as are sure to meet every rule are for when no method is left out.
OPERATIONS = "5000" if coracle.e2e.QUICK else "20000"

# What docs/ETCD.md, 'What is there', says isn't there yet. Without these only the random sequence can be compared, and not the scenarios.
NOT_THERE = [
    *["RangeStream", "Watch", "LeaseKeepAlive", "Snapshot", "MoveLeader", "Alarm", "Downgrade"],
    *["Lock", "Unlock", "Campaign", "Proclaim", "Leader", "Observe", "Resign"],
]


class Differential(coracle.TestCase):
    def test_same_answers(self):
        self.go_test(
            "differential",
            "TestDifferential/sequence",
            run="^TestDifferential$/^sequence$",
            environment={
                "CORACLE_ETCD_OPERATIONS": os.environ.get("CORACLE_ETCD_OPERATIONS", OPERATIONS),
                "CORACLE_ETCD_WITHOUT": ",".join(NOT_THERE),
            },
            one_follower=True,
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)
