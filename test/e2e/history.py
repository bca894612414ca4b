"""What clients saw, and whether one order of all of it explains it (linearizability).

Keys are registers, written with unique values. A write whose answer never came may have happened at any time after it began,
or not at all. Acknowledged writes carry the revision that they made, which fixes their order; so the search only has to place
the others, and is exact.
"""

import collections
import dataclasses
import math

PUT, DELETE, GET = "put", "delete", "get"
ABSENT = None


@dataclasses.dataclass(slots=True)
class Operation:
    kind: str
    key: str
    value: str | None  # written, or read; ABSENT: deleted, or not there
    begin: float
    end: float  # math.inf: the outcome is unknown
    revision: int = 0  # of acknowledged writes
    existed: bool | None = None  # of acknowledged deletes
    where: str = ""  # client and node, for people

    def __str__(self):
        what = {PUT: f"put {self.value}", DELETE: "delete", GET: f"get -> {self.value}"}[self.kind]
        end = "never answered" if math.isinf(self.end) else f"{self.end:.6f}"
        extra = f" revision {self.revision}" if self.revision else ""
        extra += "" if self.existed is None else f" existed {self.existed}"
        return f"{self.begin:.6f} … {end} {what}{extra} [{self.where}]"


def _describe(problem, operations):
    lines = sorted(operations, key=lambda operation: operation.begin)
    return "\n".join([problem, *(f"  {line}" for line in lines)])


def _strangers(key, operations):
    """Values that were read, but never written."""
    written = {operation.value for operation in operations if operation.kind == PUT}
    for operation in operations:
        if operation.kind == GET and operation.value is not ABSENT and operation.value not in written:
            yield f"{key}: read {operation.value}, which nobody wrote to it"


def _explains(operations):
    """Whether there is an order of one key's operations that each client could have seen."""
    writes = sorted(
        (o for o in operations if not math.isinf(o.end) and (o.kind == PUT or (o.kind == DELETE and o.existed))),
        key=lambda o: o.revision,
    )
    # A delete that found nothing is a read of nothing.
    reads = [o for o in operations if o.kind == GET or (o.kind == DELETE and o.existed is False)]
    read_values = {o.value for o in reads}
    unknown = [o for o in operations if math.isinf(o.end)]
    # Those that were seen come first: the others are rarely needed to explain anything.
    unknown.sort(key=lambda o: (o.kind == PUT and o.value not in read_values, o.begin))

    known = sorted([(o.end, "w", i) for i, o in enumerate(writes)] + [(o.end, "r", i) for i, o in enumerate(reads)])
    by_value = collections.defaultdict(list)
    for i, read in enumerate(reads):
        by_value[ABSENT if read.kind == DELETE else read.value].append(i)

    def first_end(done, reads_done):
        for end, kind, i in known:
            if i >= done if kind == "w" else not reads_done >> i & 1:
                return end
        return math.inf

    def take_reads(done, reads_done, value):
        """Reads of the present value are placed as soon as they can be: that never spoils anything."""
        while True:
            limit = first_end(done, reads_done)
            took = False
            for i in by_value[value]:
                if not reads_done >> i & 1 and reads[i].begin <= limit:
                    reads_done |= 1 << i
                    took = True
            if not took:
                return reads_done, limit

    all_reads = (1 << len(reads)) - 1
    seen = set()
    stack = [(0, 0, 0, ABSENT)]  # acknowledged writes placed, unknown ones placed, reads placed, value
    while stack:
        done, used, reads_done, value = stack.pop()
        reads_done, limit = take_reads(done, reads_done, value)
        if done == len(writes) and reads_done == all_reads:
            return True
        state = (done, used, reads_done, value)
        if state in seen:
            continue
        seen.add(state)
        for i in reversed(range(len(unknown))):
            if not used >> i & 1 and unknown[i].begin <= limit:
                stack.append((done, used | 1 << i, reads_done, unknown[i].value))
        if done < len(writes) and writes[done].begin <= limit:
            write = writes[done]
            if write.kind == PUT or value is not ABSENT:
                stack.append((done + 1, used, reads_done, write.value))
    return False


def _revision_problems(operations):
    """Revisions are the order of all acknowledged writes, so none comes twice, and none goes back in time."""
    writes = [o for o in operations if not math.isinf(o.end) and (o.kind == PUT or (o.kind == DELETE and o.existed))]
    seen = {}
    for write in writes:
        other = seen.setdefault(write.revision, write)
        if other is not write:
            yield f"two writes have revision {write.revision}:\n  {other.key}: {other}\n  {write.key}: {write}"
    by_end = sorted(writes, key=lambda o: o.end)
    ended, newest = 0, None
    for write in sorted(writes, key=lambda o: o.begin):
        while ended < len(by_end) and by_end[ended].end < write.begin:
            if newest is None or by_end[ended].revision > newest.revision:
                newest = by_end[ended]
            ended += 1
        if newest is not None and newest.revision >= write.revision:
            yield f"a later write has a lower revision:\n  {newest.key}: {newest}\n  {write.key}: {write}"


def problems(operations):
    """Everything about this history that no linearizable store would do."""
    found = list(_revision_problems(operations))
    by_key = collections.defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    for key, mine in by_key.items():
        found += list(_strangers(key, mine))
        if not _explains(mine):
            found.append(_describe(f"{key}: no order explains what its clients saw:", mine))
    return found
