#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares the benchmark's figures with the aims of the library: aims.py results.csv

One line for each aim: the ratio of medians in this run for submit and for try_send, and whether the better of the two
reaches it.  "splice" is the better of its two pipes.  Ends with how many are reached.
"""

import csv
import math
import statistics
import sys
from collections import defaultdict

KIB, MIB = 1 << 10, 1 << 20
LIBRARY = ("submit", "try_send")
GROUPS = {"splice": ("splice64k", "splice1m")}

# For answers, by size: least ratio to (another way).
ANSWER_AIMS = {
    4 * KIB: (("pread", 1.2), ("sendfile", 1.0), ("splice", 1.0)),
    16 * KIB: (("pread", 1.2), ("sendfile", 1.0), ("splice", 1.0)),
    64 * KIB: (("pread", 1.2), ("sendfile", 0.9), ("splice", 0.9)),
    256 * KIB: (("pread", 1.2), ("splice", 0.8)),
    MIB: (("pread", 1.2), ("sendfile", 1.3), ("splice", 1.3)),
}


class Case:
    """The medians of one case: figure(way, column)."""

    def __init__(self, name, rows):
        self.name = name
        self.rows = rows
        self.size = int(next(iter(rows.values()))[0]["size"])

    def figure(self, way, column):
        if way in GROUPS:
            best = min if column.endswith("per_gb") or column.startswith("p99") else max
            return best((self.figure(one, column) for one in GROUPS[way] if one in self.rows), default=math.nan)
        if way not in self.rows:
            return math.nan
        return statistics.median(float(row[column] or "nan") for row in self.rows[way])

    def cpu(self, way):
        if not self.name.startswith("wire"):
            return self.figure(way, "server_cpu_s_per_gb")
        return self.figure(way, "server_cpu_s_per_gb") + self.figure(way, "client_cpu_s_per_gb")


def read(path):
    cases = defaultdict(lambda: defaultdict(list))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            cases[row["case"]][row["way"]].append(row)
    return [Case(name, rows) for name, rows in cases.items()]


def ratio(one, other):
    return one / other if other else math.nan


def rate_aims(case, aims, column="gb_per_s"):
    """Lines (what, ratio of each library way, comparison, aim) for rates."""
    for other, aim in aims:
        figures = [ratio(case.figure(way, column), case.figure(other, column)) for way in LIBRARY]
        yield f"{case.name}: rate / {other}", figures, ">=", aim


def cpu_aims(case, others, aim):
    for other in others:
        yield f"{case.name}: CPU per GB / {other}", [ratio(case.cpu(way), case.cpu(other)) for way in LIBRARY], "<=", aim


def tail_aim(case, alone, aim):
    figures = [ratio(case.figure(way, "p99_us"), alone.figure(way, "p99_us")) for way in LIBRARY]
    yield f"{case.name}: p99 / alone", figures, "<=", aim


def aims_of(cases):
    both = ("sendfile", "splice")
    before = None
    for case in cases:
        large = case.size >= MIB
        if case.name.startswith("bulk") and (large or case.size == 64 * KIB):
            yield from rate_aims(case, [(other, 1.5 if large else 1.2) for other in both])
            if large:
                yield from cpu_aims(case, both, 0.7)
        elif case.name.startswith("answers"):
            yield from rate_aims(case, ANSWER_AIMS.get(case.size, ()))
        elif case.name.startswith("wire"):
            yield from rate_aims(case, [(other, 1.5 if large else 1.2) for other in both])
            if large:
                yield from cpu_aims(case, both, 1.0)
        elif case.name.startswith("cold") and "alone" not in case.name:
            yield from rate_aims(case, [("sendfile", 1.0)], "cold_gb_per_s")
            yield from tail_aim(case, before, 2.0)
        elif case.name.startswith("stalled") and "alone" not in case.name:
            yield from tail_aim(case, before, 1.2)
        before = case


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reached = count = 0
    print(f"{'':44} {'submit':>8} {'try_send':>8}   aim")
    for what, figures, comparison, aim in aims_of(read(sys.argv[1])):
        known = [figure for figure in figures if not math.isnan(figure)]
        if not known:
            continue
        good = max(known) >= aim if comparison == ">=" else min(known) <= aim
        print(f"{what:44} {figures[0]:8.2f} {figures[1]:8.2f}   {comparison} {aim}  {'' if good else 'MISSED'}")
        reached += good
        count += 1
    print(f"{reached} of {count} aims reached")


if __name__ == "__main__":
    main()
