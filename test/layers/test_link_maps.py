#!/usr/bin/env python3
"""The simulator runs the code that ships: both link the very same objects of the pure folders and of drive.

Compares the maps that the linker wrote for the server and for each program of the simulator, in the build in
CORACLE_BUILD_DIR, which must not be one with LTO.
"""

import os
import pathlib
import re
import unittest

import layers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD_DIR = pathlib.Path(os.environ.get("CORACLE_BUILD_DIR", ROOT / "build" / "debug"))
SHARED = layers.PURE + ["drive", "proto"]

# "src/libcoracle_raft.a(raft_raft.c.o)", or for a thin archive "src/libcoracle_raft.a.p/raft_raft.c.o".
MEMBER = re.compile(r"libcoracle_(\w+)\.a(?:\.p/|\()([\w.-]+\.o)\)?")


def linked_objects(text):
    """{(folder, object)} that a link map names as linked."""
    return {match.groups() for match in MEMBER.finditer(text)}


# Of shared folders, but used by a command and not by a node: `coracle debug` prints files with it.
COMMANDS_ONLY = {("storage", "storage_debug_print.c.o")}


def shared_objects(text):
    return {(folder, name) for folder, name in linked_objects(text) if folder in SHARED} - COMMANDS_ONLY


def runs_replicas(path):
    """A program that tries out only the simulated disk, say, has nothing in common with the server; and a build keeps
    the maps of programs that are gone."""
    if not (ROOT / "sim" / f"{path.stem.removeprefix('sim_')}.c").exists():
        return False
    return ("drive", "drive_drive.c.o") in linked_objects(path.read_text())


class LinkMaps(unittest.TestCase):
    def test_simulator_and_server_link_the_same_objects(self):
        server_map = BUILD_DIR / "coracle.map"
        simulator_maps = [path for path in sorted(BUILD_DIR.glob("sim_*.map")) if runs_replicas(path)]
        if not (ROOT / "src" / "cli" / "main.c").exists() or not simulator_maps:
            self.skipTest("this tree has no server, or no program of the simulator")
        server = shared_objects(server_map.read_text())
        self.assertIn(("drive", "drive_drive.c.o"), server)
        for path in simulator_maps:
            with self.subTest(map=path.name):
                simulator = shared_objects(path.read_text())
                self.assertEqual(sorted(server - simulator), [], "the simulator leaves these out")
                self.assertEqual(sorted(simulator - server), [], "the server does not have these")

    def test_real_ports_are_not_in_the_simulator(self):
        for path in BUILD_DIR.glob("sim_*.map"):
            linked = {folder for folder, _ in linked_objects(path.read_text())}
            self.assertEqual(linked & {"os", "node", "cli"}, set(), path.name)

    def test_both_notations_are_understood(self):
        text = (
            "src/libcoracle_raft.a(raft_raft.c.o)\n"
            " .text 0x1 0x2 src/libcoracle_drive.a.p/drive_drive.c.o\n"
            "LOAD src/libcoracle_store.a\n"
        )
        self.assertEqual(linked_objects(text), {("raft", "raft_raft.c.o"), ("drive", "drive_drive.c.o")})


if __name__ == "__main__":
    unittest.main()
