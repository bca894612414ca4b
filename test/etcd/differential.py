#!/usr/bin/env python3
"""Coracle and a real etcd, sent the same random requests, answer the same.

CORACLE_ETCD_SEED and CORACLE_ETCD_OPERATIONS choose the sequence; the test prints the seed when it chose one.
"""

import os
import unittest

import coracle

OPERATIONS = "20000" if coracle.e2e.QUICK else "100000"


class Differential(coracle.TestCase):
    def test_same_answers(self):
        operations = os.environ.get("CORACLE_ETCD_OPERATIONS", OPERATIONS)
        self.go_test("differential", "TestDifferential", environment={"CORACLE_ETCD_OPERATIONS": operations})


if __name__ == "__main__":
    unittest.main(verbosity=2)
