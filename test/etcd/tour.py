#!/usr/bin/env python3
"""Go's client for etcd, unchanged, with its concurrency package and recipes, while the leader is killed."""

import unittest

import coracle


class Tour(coracle.TestCase):
    def test_go(self):
        self.go_test("tour", "TestTour", "TestTour/leader-dies")


if __name__ == "__main__":
    unittest.main(verbosity=2)
