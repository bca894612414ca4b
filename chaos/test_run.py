"""A short run of ./dev chaos; and that its checks see a server that doesn't sync.

CORACLE_TEST_QUICK=1 makes it shorter yet. Long runs: ./dev chaos --minutes N.
"""

import json
import os
import shutil
import subprocess
import sys
import unittest

import lossy

e2e = lossy.e2e
RUN = e2e.REPOSITORY / "chaos/run"
REASON = lossy.why_not() or (None if e2e.namespaces_work() else "no network namespaces here")
SECONDS = 15 if e2e.QUICK else 110


def chaos(*arguments, environment=None):
    done = subprocess.run(
        [sys.executable, "-B", str(RUN), *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=None,  # progress, to the test's log
        text=True,
    )
    return done.returncode, done.stdout


def report(*arguments, **named):
    code, text = chaos(*arguments, "--json", **named)
    return code, json.loads(text)


@unittest.skipIf(REASON, REASON)
class RunTest(unittest.TestCase):
    def test_everything_at_once(self):
        code, found = report("--minutes", SECONDS / 60)
        self.assertEqual(code, 0, found)
        self.assertEqual(found["result"], "clean")
        self.assertGreater(found["operations"], 20 * found["rounds"], found)
        self.assertGreater(found["faults"]["kills"], found["rounds"] // 2, found)
        if found["rounds"] >= 8:  # a machine may be too slow for more
            self.assertGreater(found["disks"]["drops"], 0, found)
            self.assertGreater(found["disks"]["dropped_sectors"], 0, found)
            self.assertGreater(found["logs"]["snapshots made"], 0, found)

    def test_a_server_that_does_not_sync_is_caught(self):
        """And one that does isn't, under the very same faults."""
        arguments = ("--seed", 1, "--rounds", 8, "--faults", "kill,loss")
        code, found = report(*arguments)
        self.assertEqual(code, 0, found)
        code, found = report(*arguments, "--mutant", "LOG_WITHOUT_SYNC", environment={"CORACLE_TEST_WAIT_S": "30"})
        # Acknowledged writes are lost; or all members see that some may be, and then they must not serve.
        self.assertIn((code, found["result"]), ((3, "correctness"), (4, "liveness")), found)
        self.assertLessEqual(found["failure"]["round"], 8)
        self.assertIn("--seed 1", found["failure"]["command"])
        where = found["failure"]["where"]
        self.addCleanup(shutil.rmtree, where)
        for name in ("what", "story", "history.json", "node-1/server.log", "node-1/disk.trace"):
            self.assertTrue(os.path.exists(f"{where}/{name}"), name)


class UsageTest(unittest.TestCase):
    def test_what_makes_no_sense_is_refused(self):
        for arguments in (
            ["--nodes", "2"],
            ["--faults", "meteor"],
            ["--minutes", "-1"],
            ["--minutes", "soon"],
            ["--seed", "-1"],
            ["--mutant", "NOBODY"],
            ["--what"],
        ):
            done = subprocess.run([sys.executable, "-B", str(RUN), *arguments], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done)
            self.assertTrue(done.stderr.strip(), arguments)

    def test_help_and_the_list_of_faults(self):
        for arguments in (["--help"], ["--list-faults"]):
            done = subprocess.run([sys.executable, "-B", str(RUN), *arguments], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done)
            self.assertIn("loss", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
