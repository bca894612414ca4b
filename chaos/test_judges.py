"""Both judges of histories say the same, of histories that are right, and of those that are not."""

import collections
import os
import random
import unittest

import lossy

e2e = lossy.e2e
import judges  # noqa: E402
import test_kill  # noqa: E402
from history import DELETE, GET, PUT, Operation  # noqa: E402

HISTORIES = 300 if e2e.QUICK else 1500


@unittest.skipIf(not os.access(judges.JUDGE, os.X_OK), f"there is no {judges.JUDGE}: ./dev chaos builds it")
class JudgesTest(unittest.TestCase):
    def test_agree_on_random_histories(self):
        rng = random.Random(2)
        verdicts = collections.Counter()
        for _ in range(HISTORIES):
            operations = test_kill.random_history(rng)
            for operation in operations:
                operation.revision *= 10  # so that there is room between them for writes of unknown outcome
            verdict, text = judges.simulators_verdict(operations)
            found = judges.history.problems(operations)
            self.assertEqual(verdict == judges.RIGHT, not found, "\n".join([text, *found, *map(str, operations)]))
            verdicts[verdict] += 1
        self.assertGreater(min(verdicts[judges.RIGHT], verdicts[judges.VIOLATED]), HISTORIES // 10, verdicts)

    def test_says_what_is_wrong(self):
        good = [Operation(PUT, "k", "a", 0, 1, 2), Operation(GET, "k", "a", 2, 3)]
        self.assertIsNone(judges.problem(good))
        lost = [*good, Operation(GET, "k", None, 4, 5)]
        self.assertIn("the simulator's checker: ", judges.problem(lost))
        twice = [*good, Operation(DELETE, "j", None, 4, 5, 2, True)]
        self.assertIn("two writes have revision 2", judges.problem(twice))
        self.assertIsNone(judges.problem([]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
