"""Histories go to two checkers: test/e2e/history.py, and the simulator's (sim/sim_history.h). They must agree."""

import json
import math
import os
import subprocess

import cluster as e2e
import history
from history import ABSENT, DELETE, GET

JUDGE = os.environ.get("CORACLE_CHAOS_JUDGE", str(e2e.REPOSITORY / "build/chaos/chaos/chaos_judge"))
RIGHT, UNDECIDED, VIOLATED = 0, 1, 3
SHOWN = 4000  # characters


def as_numbers(operations):
    """The history as chaos_judge reads it: keys and values by number, moments by their place."""
    operations = sorted(operations, key=lambda o: o.begin)
    keys, values = {}, {ABSENT: 0}
    # At the same moment a sending comes first: the two are then taken as overlapping, which forbids less.
    moments = [(o.begin, 0, i) for i, o in enumerate(operations)]
    moments += [(o.end, 1, i) for i, o in enumerate(operations) if not math.isinf(o.end)]
    places = {(i, side): place for place, (_, side, i) in enumerate(sorted(moments), start=1)}
    start = operations[0].begin if operations else 0
    rows = []
    for i, o in enumerate(operations):
        known = not math.isinf(o.end)
        # A delete that found nothing, and was told no revision, is a read of nothing.
        is_read = o.kind == DELETE and o.existed is False and not o.revision
        rows.append(
            {
                "kind": GET if is_read else o.kind,
                "outcome": "done" if known else "unknown",
                "client": i,
                "key": keys.setdefault(o.key, len(keys)),
                "value": 0 if o.kind == DELETE else values.setdefault(o.value, len(values)),
                "existed": bool(o.existed),
                "revision": o.revision,
                "sent": places[i, 0],
                "answered": places[i, 1] if known else 0,
                "at": o.begin - start,
                "until": o.end - start if known else 0,
            }
        )
    return {"operations": rows}, keys


def simulators_verdict(operations):
    """(RIGHT, UNDECIDED or VIOLATED, what it says)"""
    rows, keys = as_numbers(operations)
    done = subprocess.run([JUDGE], input=json.dumps(rows), capture_output=True, text=True)
    if done.returncode not in (RIGHT, UNDECIDED, VIOLATED):
        raise RuntimeError(f"{JUDGE} ended with exit code {done.returncode}: {done.stderr}")
    names = {number: key for key, number in keys.items()}
    text = done.stdout.strip()
    return done.returncode, text + (f"\n({names})" if done.returncode == VIOLATED and len(names) < 50 else "")


def problem(operations):
    """What is wrong with the history; or None."""
    found = history.problems(operations)
    verdict, text = simulators_verdict(operations)
    if found:
        also = f"\nthe simulator's checker: {text}" if verdict == VIOLATED else "\nthe simulator's checker finds nothing wrong with it"
        return f"{len(found)} problems; the first:\n{found[0][:SHOWN]}{also}"
    if verdict == VIOLATED:
        return f"the simulator's checker, and not the other: {text[:SHOWN]}"
    return None
