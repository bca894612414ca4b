#!/usr/bin/env python3
"""Our protobuf and JSON of the etcd v3 interface mean what etcd's own Go modules mean by them."""

import os
import pathlib
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("CORACLE_BUILD_DIR", HERE.parents[1] / "build" / "debug"))
TESTS = ["DescriptorsAreEqual", "RandomMessages", "MutatedJSON", "MutatedProtobuf", "Forms"]


class Wire(unittest.TestCase):
    def test_equal_to_go(self):
        done = subprocess.run(
            ["go", "test", "-count=1", "-v", "./wire"],
            cwd=HERE,
            env={**os.environ, "CORACLE_WIRE_ECHO": str(BUILD / "test" / "etcd" / "wire_echo")},
            capture_output=True,
            text=True,
        )
        output = (done.stdout + done.stderr)[-8000:]
        self.assertEqual(done.returncode, 0, output)
        for name in TESTS:
            self.assertIn(f"--- PASS: Test{name}", done.stdout, output)


if __name__ == "__main__":
    unittest.main()
