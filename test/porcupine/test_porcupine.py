"""The simulator's checker of histories and Porcupine, an independent one, say the same of thousands of histories."""

import os
import pathlib
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("CORACLE_BUILD_DIR", HERE.parents[1] / "build" / "debug"))
COUNT = 1500 if os.environ.get("CORACLE_TEST_QUICK") else 9000
FIRST_SEED = 1


class Porcupine(unittest.TestCase):
    def test_verdicts_are_equal(self):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "histories.jsonl"
            with open(path, "wb") as out:
                program = BUILD / "test" / "porcupine" / "porcupine_histories"
                subprocess.run([program, str(COUNT), str(FIRST_SEED)], stdout=out, check=True)
            self.assertEqual(len(path.read_bytes().splitlines()), COUNT)
            done = subprocess.run(
                ["go", "test", "-count=1", "-v", "."],
                cwd=HERE,
                env={**os.environ, "CORACLE_HISTORIES": str(path)},
                capture_output=True,
                text=True,
            )
        output = (done.stdout + done.stderr)[-8000:]
        self.assertEqual(done.returncode, 0, output)
        self.assertIn("--- PASS: TestVerdictsAreEqual", done.stdout, output)
        print([line.strip() for line in done.stdout.splitlines() if "wrong histories" in line])


if __name__ == "__main__":
    unittest.main()
