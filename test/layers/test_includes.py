#!/usr/bin/env python3
"""Which folder may include which: checked for the repo, and the checker itself with planted violations."""

import pathlib
import tempfile
import unittest

import layers

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Repo(unittest.TestCase):
    def test_every_include_is_allowed(self):
        self.assertEqual(layers.include_violations(ROOT), [])

    def test_there_is_something_to_check(self):
        folders = {layers.folder_of(path, ROOT) for path in layers.source_files(ROOT)}
        self.assertLessEqual({"base", "raft", "store", "storage", "port"}, folders)

    def test_every_source_folder_has_a_row(self):
        folders = {path.name for path in (ROOT / "src").iterdir() if path.is_dir()}
        self.assertLessEqual(folders, set(layers.MAY_INCLUDE))


class Checker(unittest.TestCase):
    """Each case plants one line in one file, and says whether it must be caught."""

    CASES = [
        ("src/raft/a.c", '#include "base/error.h"', True),
        ("src/raft/a.c", '#include "raft/b.h"', True),
        ("src/raft/a.c", "#include <string.h>", True),
        ("src/raft/a.c", '#include "store/store.h"', False),
        ("src/raft/a.h", '#include "port/disk.h"', False),
        ("src/raft/a.c", "#include <stdio.h>", False),
        ("src/raft/a.c", "#include <time.h>", False),
        ("src/raft/a.c", "#include <stdlib.h>", False),
        ("src/raft/a.c", "  #  include <sys/socket.h>", False),
        ("src/raft/a.c", '#include "b.h"', False),
        ("src/raft/sub/a.c", '#include "wire/http1.h"', False),
        ("src/base/a.c", '#include "raft/raft.h"', False),
        ("src/base/a.c", "#include <stdio.h>", True),
        ("src/storage/a.c", '#include "store/store.h"', False),
        ("src/wire/a.c", "#include <jansson.h>", True),
        ("src/wire/a.c", "#include <nghttp2/nghttp2.h>", True),
        ("src/wire/a.c", '#include "proto/peer.pb-c.h"', False),
        ("src/raft/a.c", "#include <jansson.h>", False),
        ("src/replica/a.c", '#include "raft/raft.h"', True),
        ("src/replica/a.c", '#include "proto/peer.pb-c.h"', True),
        ("src/replica/a.c", '#include "wire/http1.h"', False),
        ("src/replica/a.c", '#include "port/net.h"', False),
        ("src/api/a.c", '#include "store/store.h"', False),
        ("src/api/a.c", '#include "wire/json.h"', True),
        ("src/port/a.h", '#include "base/error.h"', True),
        ("src/port/a.h", '#include "storage/slots.h"', False),
        ("src/drive/a.c", '#include "port/disk.h"', True),
        ("src/drive/a.c", '#include "os/os_disk.h"', False),
        ("src/drive/a.c", '#include "raft/raft.h"', False),
        ("src/drive/a.c", "#include <uv.h>", False),
        ("src/os/a.c", "#include <uv.h>", True),
        ("src/os/a.c", '#include "drive/drive.h"', False),
        ("src/client/a.c", '#include "os/os_net.h"', False),
        ("src/node/a.c", '#include "cli/main.h"', False),
        ("src/node/a.c", '#include "storage/slots.h"', False),
        ("src/cli/a.c", '#include "sim/cluster.h"', True),
        ("src/cli/a.c", '#include "drive/drive.h"', False),
        ("sim/disk.c", '#include "port/disk.h"', True),
        ("sim/disk.c", '#include "raft/raft.h"', False),
        ("sim/disk.c", '#include "os/os_disk.h"', False),
        ("sim/sim_check_log.c", '#include "raft/raft.h"', True),
        ("sim/sim_keeper.c", '#include "storage/log_scan.h"', True),
        ("sim/sim_middle_box.c", '#include "replica/peer_codec.h"', True),
        ("sim/sim_check_log.c", '#include "os/os_disk.h"', False),
        ("src/extra/a.c", '#include "base/error.h"', False),
    ]

    def test_planted_lines(self):
        for path, line, allowed in self.CASES:
            with self.subTest(path=path, line=line), tempfile.TemporaryDirectory() as root:
                file = pathlib.Path(root) / path
                file.parent.mkdir(parents=True)
                file.write_text(f"/* a comment */\n{line}\n")
                violations = layers.include_violations(root)
                self.assertEqual(violations == [], allowed, violations)
                if not allowed:
                    self.assertTrue(violations[0].startswith(f"{path}:2: "), violations)


if __name__ == "__main__":
    unittest.main()
