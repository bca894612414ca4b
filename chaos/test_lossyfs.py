"""That lossyfs loses what it says, and nothing else. Without that, ./dev chaos would prove nothing."""

import collections
import errno
import mmap
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

import lossy

SECTOR = 512
PAGE = 4096
REASON = lossy.why_not()


def write(path, data, offset=0, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    try:
        return os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_direct(path, size):
    """Past the cache."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    memory = mmap.mmap(-1, (size + PAGE - 1) // PAGE * PAGE)
    try:
        count = os.preadv(fd, [memory], 0)
        return memory[: min(count, size)]
    finally:
        memory.close()
        os.close(fd)


@unittest.skipIf(REASON, REASON)
class LossyTest(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="coracle-lossy-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.disk = lossy.Disk(self.directory)
        self.addCleanup(lambda: self.disk.close())
        self.root = self.disk.mount

    def durable_file(self, name, data):
        write(self.root / name, data, flags=os.O_TRUNC)
        sync(self.root / name)
        sync(self.root)
        return self.root / name

    def names(self):
        return sorted(os.listdir(self.root))

    # ---- contents ----

    def test_what_was_synced_survives(self):
        path = self.durable_file("a", b"x" * 10000)
        self.disk.drop()
        self.assertEqual(path.read_bytes(), b"x" * 10000)
        self.assertEqual((self.disk.backing / "durable/a").read_bytes(), b"x" * 10000)

    def test_what_was_not_synced_is_gone(self):
        path = self.durable_file("a", b"x" * 10000)
        self.assertEqual(self.disk.pending(), (0, 0))
        write(path, b"y" * 3000, offset=1000)
        self.assertEqual(self.disk.pending(), (7, 0))
        write(path, b"z" * 5000, offset=12000)
        self.assertEqual(path.read_bytes(), b"x" * 1000 + b"y" * 3000 + b"x" * 6000 + bytes(2000) + b"z" * 5000)
        self.disk.drop()
        self.assertEqual(path.read_bytes(), b"x" * 10000)

    def test_cutting_a_file_lasts_with_its_sync(self):
        path = self.durable_file("a", b"x" * 10000)
        os.truncate(path, 3000)
        os.truncate(path, 6000)
        self.assertEqual(path.read_bytes(), b"x" * 3000 + bytes(3000))
        self.disk.drop()
        self.assertEqual(path.read_bytes(), b"x" * 10000)
        os.truncate(path, 3000)
        os.truncate(path, 6000)
        sync(path)
        self.disk.drop()
        self.assertEqual(path.read_bytes(), b"x" * 3000 + bytes(3000))

    def test_direct_writes_need_a_sync_too(self):
        path = self.durable_file("a", bytes(4 * PAGE))
        memory = mmap.mmap(-1, PAGE)
        self.addCleanup(memory.close)
        memory[:] = b"d" * PAGE
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.addCleanup(os.close, fd)
        self.assertEqual(os.pwritev(fd, [memory], PAGE), PAGE)
        self.assertEqual(read_direct(path, 4 * PAGE), bytes(PAGE) + b"d" * PAGE + bytes(2 * PAGE))
        self.disk.drop()
        self.assertEqual(read_direct(path, 4 * PAGE), bytes(4 * PAGE))
        os.pwritev(fd, [memory], PAGE)
        os.fdatasync(fd)
        self.disk.drop()
        self.assertEqual(read_direct(path, 4 * PAGE), bytes(PAGE) + b"d" * PAGE + bytes(2 * PAGE))

    def test_a_random_part_survives_by_sectors(self):
        """Each sector is old, new, or torn: a new beginning and an old rest. All three happen; the seed decides which."""
        count, seen, outcomes = 64, collections.Counter(), {}
        old, new = b"o" * SECTOR, b"n" * SECTOR
        path = self.durable_file("a", old * count)
        for seed in [*range(40), *range(40)]:
            write(path, old * count)
            sync(path)
            write(path, new * count)
            self.disk.drop(seed)
            data = path.read_bytes()
            self.assertEqual(len(data), count * SECTOR)
            self.assertEqual(outcomes.setdefault(seed, data), data, "a seed's outcome is always the same")
            for i in range(count):
                sector = data[i * SECTOR : (i + 1) * SECTOR]
                fresh = sector.count(b"n")
                self.assertEqual(sector, new[:fresh] + old[fresh:])
                seen["old" if fresh == 0 else "new" if fresh == SECTOR else "torn"] += 1
        self.assertGreater(min(seen["old"], seen["new"], seen["torn"]), 50, seen)
        stats = self.disk.stats()
        for kind, counter in (("old", "dropped_sectors"), ("new", "kept_sectors"), ("torn", "torn_sectors")):
            self.assertEqual(stats[counter], seen[kind])
        holes = sum(b"o" in data.strip(b"o") for data in outcomes.values())
        self.assertGreater(holes, 5, "a later sector without an earlier one")

    def test_a_random_size_between(self):
        sizes = set()
        path = self.durable_file("a", b"x" * 1000)
        for seed in range(40):
            write(path, b"y" * 4000, offset=1000)
            self.disk.drop(seed)
            data = path.read_bytes()
            sizes.add(len(data))
            self.assertLessEqual(set(data[1000:]), set(b"\0y"))
            self.assertEqual(data[:1000], b"x" * 1000)
            os.truncate(path, 1000)
            sync(path)
        self.assertGreater(len(sizes), 4)
        self.assertLessEqual({1000, 5000}, sizes)

    # ---- names ----

    def test_a_name_lasts_with_its_directory(self):
        write(self.root / "a", b"data")
        sync(self.root / "a")
        self.assertEqual(self.disk.pending(), (0, 1))
        self.disk.drop()
        self.assertEqual(self.names(), [], "its contents were synced, and its name wasn't")

    def test_a_rename_without_the_directory_is_undone(self):
        self.durable_file("a", b"old")
        write(self.root / "a.new", b"new")
        sync(self.root / "a.new")
        os.rename(self.root / "a.new", self.root / "a")
        self.assertEqual(self.names(), ["a"])
        self.assertEqual((self.root / "a").read_bytes(), b"new")
        self.disk.drop()
        self.assertEqual(self.names(), ["a"])
        self.assertEqual((self.root / "a").read_bytes(), b"old")

    def test_a_rename_with_the_directory_lasts(self):
        self.durable_file("a", b"old")
        write(self.root / "a.new", b"new")
        sync(self.root / "a.new")
        os.rename(self.root / "a.new", self.root / "a")
        sync(self.root)
        self.disk.drop()
        self.assertEqual(self.names(), ["a"])
        self.assertEqual((self.root / "a").read_bytes(), b"new")

    def test_a_rename_is_whole_and_may_come_before_its_contents(self):
        """The classical mistake: renamed and the directory synced, but not the file."""
        for seed in range(30):
            self.durable_file("a", b"old")
            write(self.root / "a.new", b"n" * 2 * SECTOR)
            os.rename(self.root / "a.new", self.root / "a")
            self.disk.drop(seed)
            self.assertIn(self.names(), (["a"], ["a", "a.new"]))
            if len(self.names()) == 2:
                self.assertEqual((self.root / "a").read_bytes(), b"old")
                os.unlink(self.root / "a.new")
        self.durable_file("a", b"old")
        write(self.root / "a.new", b"new")
        os.rename(self.root / "a.new", self.root / "a")
        sync(self.root)
        self.disk.drop()
        self.assertEqual((self.root / "a").read_bytes(), b"")

    def test_a_removal_without_the_directory_is_undone(self):
        self.durable_file("a", b"data")
        os.unlink(self.root / "a")
        self.assertEqual(self.names(), [])
        self.disk.drop()
        self.assertEqual((self.root / "a").read_bytes(), b"data")
        os.unlink(self.root / "a")
        sync(self.root)
        self.disk.drop()
        self.assertEqual(self.names(), [])

    def test_a_removed_file_is_the_new_one_of_its_name_only_after_a_sync(self):
        self.durable_file("a", b"first")
        os.unlink(self.root / "a")
        write(self.root / "a", b"second")
        sync(self.root / "a")
        self.disk.drop()
        self.assertEqual((self.root / "a").read_bytes(), b"first")

    def test_a_directory_lasts_with_its_parent(self):
        os.makedirs(self.root / "d/e")
        write(self.root / "d/e/a", b"data")
        for path in ("d/e/a", "d/e", "d"):
            sync(self.root / path)
        self.assertFalse((self.disk.backing / "durable/d").exists())
        sync(self.root)
        self.assertEqual((self.disk.backing / "durable/d/e/a").read_bytes(), b"data")
        shutil.rmtree(self.root / "d")
        self.disk.drop()
        self.assertEqual((self.root / "d/e/a").read_bytes(), b"data")

        os.makedirs(self.root / "f/g")
        sync(self.root / "f")
        self.disk.drop()
        self.assertEqual(self.names(), ["d"])

    def test_some_changes_of_a_directory_survive(self):
        outcomes = set()
        for seed in range(60):
            for i in range(4):
                write(self.root / f"{i}", b"")
            self.disk.drop(seed)
            outcomes.add("".join(self.names()))
            for name in self.names():
                os.unlink(self.root / name)
            sync(self.root)
        self.assertLessEqual({"", "0", "01", "012", "0123"}, outcomes, "a beginning")
        self.assertTrue(outcomes & {"1", "2", "3", "02", "03", "13", "23"}, "or any subset")

    def test_an_unsynced_file_under_an_open_descriptor(self):
        fd = os.open(self.root / "a", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(fd, b"data")
        self.disk.drop()
        with self.assertRaises(OSError) as caught:
            os.fsync(fd)
        self.assertEqual(caught.exception.errno, errno.ESTALE)
        os.close(fd)

    # ---- faults ----

    def assert_errno(self, number, call, *arguments):
        with self.assertRaises(OSError) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.errno, number)

    def test_after_a_failed_sync_the_cache_lies(self):
        path = self.durable_file("a", b"x" * 8 * PAGE)
        write(path, b"y" * 8 * PAGE)
        self.disk.command("fail", "sync", 1)
        self.assert_errno(errno.EIO, sync, path)
        sync(path)  # says that all is well
        self.assertEqual(path.read_bytes(), b"y" * 8 * PAGE)
        truth = read_direct(path, 8 * PAGE)
        self.assertIn(b"x", truth)
        self.disk.drop()
        self.assertEqual(path.read_bytes(), truth)

    def test_errors_come_as_often_as_asked_and_where(self):
        a, b = self.durable_file("a", b"x"), self.durable_file("b", b"x")
        self.disk.command("fail", "write", 2, "/b")
        self.assertEqual(write(a, b"y"), 1)
        self.assert_errno(errno.EIO, write, b, b"y")
        self.assert_errno(errno.EIO, write, b, b"y")
        self.assertEqual(write(b, b"y"), 1)
        self.disk.command("fail", "read", 1)
        self.assert_errno(errno.EIO, a.read_bytes)
        self.assertEqual(a.read_bytes(), b"y")
        self.disk.command("fail", "syncdir", 1)
        self.assert_errno(errno.EIO, sync, self.root)
        self.disk.command("fail", "name", 3)
        self.assert_errno(errno.EIO, os.rename, a, self.root / "c")
        self.assert_errno(errno.EIO, os.unlink, a)
        self.assert_errno(errno.EIO, os.mkdir, self.root / "d")
        self.disk.command("fail", "write", 9)
        self.disk.command("heal")
        self.assertEqual(write(a, b"z"), 1)
        self.disk.command("fail", "short", 1)
        self.assertEqual(write(a, b"z" * 4 * PAGE), 2 * PAGE)
        stats = self.disk.stats()
        self.assertEqual([stats[f"failed_{call}"] for call in ("write", "read", "syncdir", "name", "short")], [2, 1, 1, 3, 1])

    def test_full_and_not_any_more(self):
        path = self.durable_file("a", b"x" * 8 * PAGE)
        self.disk.command("limit", 10 * PAGE)
        self.assertEqual(os.statvfs(self.root).f_bavail, 2)
        self.assert_errno(errno.ENOSPC, write, path, b"y" * 3 * PAGE, 8 * PAGE)
        self.assertEqual(write(path, b"y" * 8 * PAGE), 8 * PAGE, "inside of what there is")
        self.assertEqual(write(path, b"y" * 2 * PAGE, 8 * PAGE), 2 * PAGE)
        self.disk.command("limit", 0)
        self.assertEqual(write(path, b"y" * 30 * PAGE), 30 * PAGE)

    def test_a_slow_sync_that_the_power_overtakes(self):
        path = self.durable_file("a", b"x" * PAGE)
        write(path, b"y" * PAGE)
        self.disk.command("slow", 60000)
        thread = threading.Thread(target=lambda: self.assert_errno(errno.EIO, sync, path))
        thread.start()
        # Whether the sync has begun can't be seen; if it hasn't, it meets a disk without power all the same.
        self.disk.command("cut")
        thread.join()
        self.assert_errno(errno.EIO, write, path, b"z")
        self.disk.command("slow", 0)
        self.disk.drop()
        self.assertEqual(path.read_bytes(), b"x" * PAGE)

    def test_write_back_makes_versions_between_durable(self):
        """With it, a sector may survive as it was in the middle of the writes, and not only before or after all of them."""
        self.disk.command("writeback", 500)
        middle = 0
        for _ in range(30):
            path = self.durable_file("a", b"0" * PAGE)
            for version in (b"1", b"2", b"3"):
                write(path, version * PAGE)
            self.disk.drop()
            data = path.read_bytes()
            for i in range(PAGE // SECTOR):
                sector = data[i * SECTOR : (i + 1) * SECTOR]
                self.assertEqual(len(set(sector)), 1)
                middle += sector[:1] in (b"1", b"2")
        self.assertGreater(middle, 0)

    def test_flips_one_bit(self):
        path = self.durable_file("a", bytes(PAGE))
        write(path, bytes(SECTOR), offset=SECTOR)
        self.disk.command("flip", "/a", 3, 0)
        self.disk.command("flip", "/a", SECTOR + 3, 7)
        data = path.read_bytes()
        self.assertEqual([(i, byte) for i, byte in enumerate(data) if byte], [(3, 1), (SECTOR + 3, 128)])
        self.disk.drop()
        self.assertEqual(path.read_bytes(), data)
        with self.assertRaises(lossy.DiskFailed):
            self.disk.command("flip", "/a", PAGE, 0)

    def test_wrong_commands_are_refused(self):
        for words in (["nonsense"], ["drop", "x"], ["fail", "sync"], ["fail", "nap", 1], ["flip", "/none", 0, 0], ["limit"]):
            with self.assertRaises(lossy.DiskFailed):
                self.disk.command(*words)
        self.assertEqual(subprocess.run([lossy.LOSSYFS, "x"], capture_output=True).returncode, 2)

    # ---- its own life ----

    def test_its_own_death_is_a_loss_and_leaves_nothing_in_the_way(self):
        path = self.durable_file("a", b"old")
        write(path, b"new")
        self.disk.kill()
        self.assert_errno(errno.ENOTCONN, os.stat, self.root)
        self.disk.start()
        self.assertEqual(path.read_bytes(), b"old")

    def test_ending_unmounts(self):
        self.durable_file("a", b"data")
        self.disk.close()
        self.assertFalse(os.path.ismount(self.root))
        self.assertEqual(self.names(), [])
        self.assertEqual((self.disk.backing / "durable/a").read_bytes(), b"data")

    def test_stale_mounts_are_removed(self):
        self.disk.kill()
        lossy.remove_stale_mounts(str(self.directory))
        self.assertEqual(self.names(), [])

    def test_unsynced_memory_is_given_back(self):
        """Inodes of files that nothing leads to any more are gone from the backing directory."""
        for i in range(50):
            self.durable_file("a", b"x" * i)
            os.unlink(self.root / "a")
            sync(self.root)
        self.disk.command("sync")
        self.assertLess(len(os.listdir(self.disk.backing / "inodes")), 5)


if __name__ == "__main__":
    unittest.main(verbosity=2)
