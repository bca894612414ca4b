#!/usr/bin/env python3
"""What the pure folders' objects leave to the linker: nothing that could act, block, or tell the time.

Reads the static libraries of the build in CORACLE_BUILD_DIR, which must not be one with LTO.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

import layers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD_DIR = pathlib.Path(os.environ.get("CORACLE_BUILD_DIR", ROOT / "build" / "debug"))


class Repo(unittest.TestCase):
    def test_pure_objects_are_pure(self):
        archives = layers.archives_of(BUILD_DIR)
        self.assertEqual(layers.symbol_violations(archives), [])

    def test_every_pure_folder_with_sources_has_its_library(self):
        archives = layers.archives_of(BUILD_DIR)
        expected = {folder for folder in layers.PURE if any((ROOT / "src" / folder).glob("*.c"))}
        self.assertLessEqual(expected | {"base"}, set(archives))
        for folder in expected:
            self.assertTrue(layers.defined_symbols(archives[folder]), folder)


class Checker(unittest.TestCase):
    """Compiles a line of C as if it were a file of a folder, and looks at what the checker says."""

    HEAD = (
        "#include <errno.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n"
        "#include <string.h>\n#include <time.h>\n#include <unistd.h>\n"
        "int base_add(int); int raft_step(int); int store_apply(int); int json_dump_file(void *, char *, int);\n"
        "int json_loadb(char *); int nghttp2_session_send(void *); int nghttp2_session_mem_send(void *);\n"
    )

    def violations(self, folder, code, *flags):
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            files = {
                "base": "int base_add(int a) { return a + 1; }",
                "raft": "int raft_step(int a) { return a; }",
                "store": "int store_apply(int a) { return a; }",
            }
            files[folder] = files.get(folder, "") + "\n" + code
            archives = {}
            for name, text in files.items():
                source, object_file = scratch / f"{name}.c", scratch / f"{name}_planted.o"
                archive = scratch / f"libcoracle_{name}.a"
                source.write_text(self.HEAD + text + "\n")
                subprocess.run(
                    [os.environ.get("CC", "cc"), "-w", "-O1", "-fPIE", *flags, "-c", source, "-o", object_file],
                    check=True,
                )
                subprocess.run(["ar", "crs", archive, object_file], check=True)
            return layers.symbol_violations(layers.archives_of(scratch))

    def assert_caught(self, folder, code, symbol, *flags):
        violations = self.violations(folder, code, *flags)
        self.assertEqual(len(violations), 1, violations)
        self.assertTrue(violations[0].startswith(f"{folder}: {folder}_planted.o "), violations)
        self.assertTrue(violations[0].endswith(f" {symbol}"), violations)

    def test_what_a_pure_object_may_do(self):
        for code in [
            "int f(int a) { return base_add(a); }",
            "void *f(void *a, void *b, size_t n) { return memcpy(a, b, n) ? memchr(a, 1, n) : 0; }",
            "size_t f(char *a) { return strlen(a); }",
            "unsigned __int128 f(unsigned __int128 a, unsigned __int128 b) { return a / b; }",
            'static const char *const names[] = {"a", "b"}; const char *f(int i) { return names[i]; }',
            "void g(char *); int f(int a) { char text[64]; g(text); return text[a]; } void g(char *a) { *a = 1; }",
        ]:
            with self.subTest(code=code):
                self.assertEqual(self.violations("raft", code, "-fstack-protector-all"), [])
                self.assertEqual(self.violations("raft", code, "-fsanitize=address,undefined"), [])

    def test_clock_files_memory_and_errno(self):
        self.assert_caught("raft", "long f(void) { return time(0); }", "time")
        self.assert_caught("store", "int f(void *t) { return clock_gettime(0, t); }", "clock_gettime")
        self.assert_caught("storage", "int f(char *b) { return read(0, b, 1); }", "read")
        self.assert_caught("wire", 'int f(char *b) { return snprintf(b, 9, "%d", b[0]); }', "snprintf")
        self.assert_caught("api", "void *f(int n) { return malloc(n); }", "malloc")
        self.assert_caught("replica", "int f(void) { return errno; }", "__errno_location")
        self.assert_caught("raft", "int f(void) { return rand(); }", "rand")
        self.assert_caught("raft", "char *f(char *a) { return strdup(a); }", "strdup")
        self.assert_caught("raft", "char *f(int a) { return strerror(a); }", "strerror")
        self.assert_caught("raft", "long f(void) { return time(0); }", "time", "-fsanitize=address,undefined")

    def test_a_folder_that_it_may_not_use(self):
        self.assert_caught("storage", "int f(int a) { return store_apply(a); }", "store_apply")
        self.assert_caught("wire", "int f(int a) { return raft_step(a); }", "raft_step")
        self.assert_caught("api", "int f(int a) { return raft_step(a); }", "raft_step")
        self.assertEqual(self.violations("replica", "int f(int a) { return raft_step(store_apply(a)); }"), [])

    def test_named_functions_of_libraries(self):
        self.assertEqual(self.violations("wire", "int f(char *a) { return json_loadb(a); }"), [])
        self.assertEqual(self.violations("wire", "int f(char *a) { return nghttp2_session_mem_send(a); }"), [])
        self.assert_caught("wire", "int f(char *a) { return json_dump_file(a, a, 0); }", "json_dump_file")
        self.assert_caught("wire", "int f(char *a) { return nghttp2_session_send(a); }", "nghttp2_session_send")
        self.assert_caught("raft", "int f(char *a) { return json_loadb(a); }", "json_loadb")

    def test_variables(self):
        self.assert_caught("raft", "int count; int f(void) { return count++; }", "count")
        self.assert_caught("raft", "static int seed = 7; int f(void) { return seed++; }", "seed")
        self.assert_caught("raft", "int count; int f(void) { return count++; }", "count", "-fsanitize=address")

    def test_impure_folders_are_left_alone(self):
        self.assertEqual(self.violations("os", "long f(void) { return time(0) + getpid(); }"), [])


if __name__ == "__main__":
    unittest.main()
