#!/usr/bin/env python3
"""`coracle sim` itself: exit codes, what it says of a failure, replays, traces, files of seeds, states, several jobs."""

import pathlib
import re
import shlex
import signal
import subprocess
import tempfile
import time
import unittest

import simulator
from simulator import CLEAN, CRASHED, MISSED, STUCK, USAGE, VIOLATED, sim

FIGURES = ["seeds", "hash", "simulated_seconds", "events", "writes", "reads", "elections", "faults", "marks", "failures"]


def figures(outcome):
    report = outcome.json()
    return {name: report[name] for name in FIGURES}


class ExitCodes(unittest.TestCase):
    def test_clean(self):
        outcome = sim("--seeds=4", "--seconds=5")
        self.assertEqual(outcome.code, CLEAN, outcome)
        self.assertRegex(outcome.out, r"^4 seeds, \d+ simulated s in ")

    def test_quiet_says_nothing_when_all_is_well(self):
        outcome = sim("--seeds=2", "--seconds=5", "--quiet")
        self.assertEqual((outcome.code, outcome.out, outcome.err), (CLEAN, "", ""))

    def test_usage(self):
        for options, message in [
            (["--frobnicate"], "--frobnicate: there is no such flag"),
            (["--sede=3"], "did you mean --seed"),
            (["--seed=x"], "--seed: is not a whole number"),
            (["--seed=-1"], "--seed: is not a whole number"),
            (["--seeds=0"], "--seeds: is out of range"),
            (["--nodes=8"], '--nodes: is neither a number from 1 to 7 nor "drawn"'),
            (["--nodes=0"], "--nodes: is neither"),
            (["--load=fast"], "--load: is neither a number"),
            (["--faults=crashes,gremlins"], '--faults: "gremlins" is no fault'),
            (["--mutant=KIND"], "--mutant: there is none of that name"),
            (["--jobs=0"], "--jobs: is out of range"),
            (["--trace"], "--trace: goes with one seed"),
            (["--seed=1", "--seeds=2"], "--seed: is one"),
            (["--seed=1", "--trace", "--json"], "--trace: doesn't go with --json"),
            (["--once", "--twice"], "--once: doesn't go with --twice"),
            (["--seed-file=nowhere.seeds"], "nowhere.seeds: No such file"),
            (["--seed-file=x", "--seeds=3"], "--seed-file: says which seeds"),
            (["extra"], "there is one too many"),
        ]:
            with self.subTest(options=options):
                outcome = sim(*options)
                self.assertEqual(outcome.code, USAGE, outcome)
                self.assertIn(message, outcome.err)
                self.assertEqual(outcome.out, "")

    def test_every_mistake_at_once(self):
        outcome = sim("--nodes=9", "--load=x", "--faults=foo")
        self.assertEqual(len(outcome.err.splitlines()), 3, outcome)

    def test_help_teaches(self):
        outcome = sim("--help")
        self.assertEqual(outcome.code, CLEAN)
        for word in ["--seed=", "--faults=", "Exit codes", "Examples:", "crashes: kill", "coracle sim --seed=17"]:
            self.assertIn(word, outcome.out)

    def assert_failure(self, outcome, code, word):
        """A sentence, the seed and the commit, one command that gives the same again, and what led there."""
        self.assertEqual(outcome.code, code, outcome)
        self.assertRegex(outcome.out, rf"(?m)^seed \d+ {word}: .+")
        self.assertRegex(outcome.out, r"(?m)^commit: \S+$")
        replay = re.search(r"(?m)^replay: \./dev sim (.*)$", outcome.out)
        self.assertIsNotNone(replay, outcome)
        again = sim(*shlex.split(replay[1]), "--quiet")
        self.assertEqual(again.code, code, again)
        sentence = re.search(rf"(?m)^seed \d+ {word}: .*$", outcome.out)[0]
        if "trace hash" not in sentence:
            self.assertIn(sentence, again.out)

    def test_violated(self):
        outcome = sim("--seeds=20", "--mutant=ACKNOWLEDGE_BEFORE_SYNC")
        self.assert_failure(outcome, VIOLATED, "violated")
        lines = re.findall(r"(?m)^ +\d+\.\d{6} (\S+) +(.*)$", outcome.out)
        self.assertGreater(len(lines), 10, outcome)
        self.assertLessEqual(len(lines), 200)
        self.assertTrue(lines[-1][1].startswith("VIOLATION: "), lines[-1])
        self.assertTrue(any("fdatasync" in text for _, text in lines), "disks are in it")
        self.assertTrue(any("<- " in text for _, text in lines), "messages are in it")

    def test_runs_that_differ(self):
        self.assert_failure(sim("--seeds=20", "--mutant=RUNS_DIFFER", "--seconds=5"), VIOLATED, "violated")
        self.assertEqual(sim("--seeds=2", "--mutant=RUNS_DIFFER", "--seconds=5", "--once").code, CLEAN)

    def test_stuck(self):
        self.assert_failure(sim("--seeds=60", "--mutant=NOBODY_CAMPAIGNS"), STUCK, "stuck")

    def test_crashed(self):
        outcome = sim("--seeds=20", "--mutant=ABORT", "--seconds=5")
        self.assert_failure(outcome, CRASHED, "crashed")
        self.assertIn("signal 6", outcome.out)
        self.assertIn("check failed at", outcome.out)
        self.assertRegex(outcome.out, r"(?m)^ +\d+\.\d{6} node-1 ", "the trace outlives the process")

    def test_a_seed_that_has_no_end_is_stuck(self):
        outcome = sim("--seed=1", "--seconds=100000000", "--load=1000", "--seed-timeout=1", "--quiet", "--json")
        self.assertEqual(outcome.code, STUCK, outcome)
        self.assertIn("no end within 1 s", outcome.out)

    def test_an_unreached_mark_fails(self):
        outcome = sim("--seed=1", "--seconds=1", "--faults=none", "--load=0", "--require-marks")
        self.assertEqual(outcome.code, MISSED, outcome)
        self.assertRegex(outcome.out, r"no seed reached .*LEADER_LOST_QUORUM")

    def test_interrupted(self):
        process = subprocess.Popen(
            [simulator.SIMULATOR, "sim", "--seeds=100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        self.assertEqual(process.returncode, MISSED)
        self.assertTrue(out.endswith("interrupted\n"), out)

    def test_the_release_has_neither_marks_nor_mutants(self):
        for options, message in [
            (["--mutant=ABORT"], "--mutant: this binary has none; ./dev sim builds one"),
            (["--mutant=list"], "--mutant: this binary has none"),
            (["--marks"], "--marks: this binary has no marks"),
            (["--require-marks"], "--require-marks: this binary has no marks"),
        ]:
            with self.subTest(options=options):
                outcome = sim(*options, binary=simulator.RELEASE)
                self.assertEqual(outcome.code, USAGE, outcome)
                self.assertIn(message, outcome.err)
        outcome = sim("--seeds=2", "--seconds=5", binary=simulator.RELEASE)
        self.assertEqual(outcome.code, CLEAN, outcome)
        self.assertIn("neither marks nor mutants", outcome.out)
        texts = pathlib.Path(simulator.RELEASE).read_bytes()
        with_them = pathlib.Path(simulator.SIMULATOR).read_bytes()
        for text in [b"a leader commits an entry of an earlier term", b"COMMIT_EARLIER_TERM", b"a leader lost touch with"]:
            self.assertNotIn(text, texts)
            self.assertIn(text, with_them)


class SameSeedSameRun(unittest.TestCase):
    def test_whatever_the_jobs(self):
        options = ["--seeds=12", "--seconds=10", "--once", "--json"]
        one = figures(sim(*options, "--jobs=1"))
        self.assertEqual(one["seeds"], 12)
        for jobs in [2, 5, 30]:
            self.assertEqual(figures(sim(*options, f"--jobs={jobs}")), one)

    def test_the_first_that_fails_is_told_whatever_the_jobs(self):
        options = ["--first=1", "--seeds=40", "--mutant=VOTES_TWICE", "--json", "--quiet"]
        told = []
        for jobs in [1, 2, 7]:
            outcome = sim(*options, f"--jobs={jobs}")
            self.assertIn(outcome.code, (VIOLATED, STUCK), outcome)
            failures = outcome.json()["failures"]
            self.assertEqual(len(failures), 1)
            told.append((failures[0]["seed"], failures[0]["text"]))
        self.assertEqual(len(set(told)), 1, told)

    def test_sanitizers_and_build_change_nothing(self):
        options = ["--seeds=3", "--seconds=3", "--once", "--json"]
        one, other = sim(*options), sim(*options, binary=simulator.RELEASE)
        self.assertEqual(one.json()["hash"], other.json()["hash"])
        self.assertEqual(one.json()["hash"], sim(*options, binary=simulator.CHECKED).json()["hash"])

    def test_a_trace_changes_nothing(self):
        without = sim("--seed=7", "--seconds=5", "--json").json()["hash"]
        trace = sim("--seed=7", "--seconds=5", "--trace")
        self.assertEqual(trace.code, CLEAN)
        self.assertIn(f"seed 7: clean, hash {without}", trace.out.splitlines()[-1])

    def test_flags_that_say_what_is_drawn_change_nothing(self):
        drawn = sim("--seed=7", "--seconds=5", "--trace").out.splitlines()[-1]
        nodes, load = re.search(r"it drew: (\d) nodes?, (\d+) operations/s", drawn).groups()
        given = sim("--seed=7", "--seconds=5", "--trace", f"--nodes={nodes}", f"--load={load}").out.splitlines()[-1]
        self.assertEqual(given, drawn)

    def test_seeds_differ(self):
        hashes = {sim(f"--seed={seed}", "--seconds=2", "--json").json()["hash"] for seed in range(1, 9)}
        self.assertEqual(len(hashes), 8)

    def test_swarm(self):
        """Seeds draw sizes, loads and faults of their own."""
        drawn = [sim(f"--seed={seed}", "--seconds=1", "--trace").out.splitlines()[-1] for seed in range(1, 31)]
        self.assertEqual({re.search(r"it drew: (\d) ", line)[1] for line in drawn}, {"1", "3", "5"})
        self.assertGreater(len({re.search(r"(\d+) operations/s", line)[1] for line in drawn}), 15)
        self.assertGreater(len({re.search(r"election timeout (\d+)", line)[1] for line in drawn}), 3)


class Traces(unittest.TestCase):
    def test_a_trace_reads(self):
        outcome = sim("--seed=1", "--nodes=3", "--seconds=2", "--trace")
        lines = outcome.out.splitlines()[:-1]
        times = [float(re.match(r" +(\d+\.\d{6}) (?:-|node-\d|client-\d+) ", line)[1]) for line in lines]
        self.assertEqual(times, sorted(times))
        for what in ["-> node-", "<- node-", "disk: fdatasync", "became leader", " put key ", "faults end"]:
            self.assertTrue(any(what in line for line in lines), what)

    def test_longer_than_its_limit(self):
        outcome = sim("--seed=1", "--seconds=5", "--trace", "--trace-limit=64KiB")
        self.assertEqual(outcome.code, USAGE)
        self.assertIn("the trace is longer than its limit of 65536 bytes; give more with --trace-limit", outcome.err)
        self.assertLess(len(outcome.out), 66000)
        self.assertGreater(len(outcome.out), 60000)


class SeedFiles(unittest.TestCase):
    def run_file(self, text, *options):
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "some.seeds"
            path.write_text(text)
            return sim(f"--seed-file={path}", *options)

    def test_each_seed_has_its_settings(self):
        text = (
            "coracle-seeds 1\n# a comment\n\n"
            "seed=3 nodes=1 seconds=2 load=10 faults=none commit=0123abc  # why\n"
            "seed=4 nodes=3 seconds=3 load=0 faults=none\n"
        )
        outcome = self.run_file(text, "--json", "--once")
        self.assertEqual(outcome.code, CLEAN, outcome)
        single = [
            sim("--seed=3", "--nodes=1", "--seconds=2", "--load=10", "--faults=none", "--json", "--once").json(),
            sim("--seed=4", "--nodes=3", "--seconds=3", "--load=0", "--faults=none", "--json", "--once").json(),
        ]
        self.assertEqual(outcome.json()["seeds"], 2)
        self.assertEqual(outcome.json()["events"], sum(report["events"] for report in single))

    def test_rows_of_mutants_run_with_theirs_only(self):
        text = "coracle-seeds 1\nseed=1 seconds=2\nseed=2 seconds=5 mutant=ABORT\nseed=3 seconds=2 mutant=RUNS_DIFFER\n"
        self.assertEqual(self.run_file(text, "--json").json()["seeds"], 1)
        outcome = self.run_file(text, "--json", "--mutant=ABORT")
        self.assertEqual(outcome.code, CRASHED)
        self.assertEqual(outcome.json()["failures"][0]["seed"], 2)

    def test_bad_files(self):
        for text, message in [
            ("coracle-seeds 2\nseed=1\n", "some.seeds:1: the format has version 2; this program reads version 1"),
            ("seed=1\n", "some.seeds:1: this is no file of seeds"),
            ("", "some.seeds:1: this is no file of seeds"),
            ("coracle-seeds 1\nseed=1\nnodes=3\n", "some.seeds:3: there is no seed"),
            ("coracle-seeds 1\nseed=1 colour=red\n", 'some.seeds:2: there is no field "colour"'),
            ("coracle-seeds 1\nseed=1 nodes=12\n", "some.seeds:2: nodes is no number from 1 to 7"),
            ("coracle-seeds 1\n17\n", 'some.seeds:2: "17" is no field'),
            ("coracle-seeds 1\nseed=1 faults=bugs\n", 'some.seeds:2: "bugs" is no fault'),
        ]:
            with self.subTest(text=text):
                outcome = self.run_file(text)
                self.assertEqual(outcome.code, USAGE, outcome)
                self.assertIn(message, outcome.err)


class States(unittest.TestCase):
    def test_an_interrupted_run_goes_on(self):
        options = ["--seeds=1200", "--seconds=1", "--load=0", "--nodes=1", "--once", "--json"]
        with tempfile.TemporaryDirectory() as scratch:
            state = pathlib.Path(scratch) / "state"
            process = subprocess.Popen(
                [simulator.SIMULATOR, "sim", *options, f"--state={state}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            while not state.exists() and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGINT)
            process.wait()
            finished = int(re.search(r"(?m)^finished (\d+)$", state.read_text())[1])
            self.assertGreater(finished, 0)
            self.assertEqual(figures(sim(*options, f"--state={state}")), figures(sim(*options)))
            # There is nothing left to do.
            self.assertEqual(figures(sim(*options, f"--state={state}")), figures(sim(*options)))
            other = sim("--seeds=1300", f"--state={state}")
            self.assertEqual(other.code, USAGE)
            self.assertIn("with other options", other.err)

    def test_a_state_that_is_none(self):
        with tempfile.TemporaryDirectory() as scratch:
            state = pathlib.Path(scratch) / "state"
            for text in ["coracle-sim-state 7\n", "something else\n", ""]:
                state.write_text(text)
                outcome = sim("--seeds=2", f"--state={state}")
                self.assertEqual(outcome.code, USAGE, outcome)
                self.assertIn("--state: ", outcome.err)


if __name__ == "__main__":
    unittest.main()
