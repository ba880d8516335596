#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares the benchmark's figures with the aims of the library: aims.py results.csv

One line for each aim that the CSV has figures for: the ratio of medians, or the median itself, and whether the aim is
reached.  The others are listed as not measured.  That includes cases that the benchmark does not have yet: memfd and
squashfs, those of answers and of the wire with content that cannot change.

"splice" is the better of its two pipes.  Ends with how many aims are reached.
"""

import csv
import math
import statistics
import sys
from collections import defaultdict, namedtuple

# way's figure divided by that of the best of others (or in the case "beside"; or by nothing) against bound.
Aim = namedtuple("Aim", "topic case way measure others bound beside", defaults=(None,))

SPLICE = ("splice64k", "splice1m")
EITHER = ("sendfile", *SPLICE)
SIZES = ("4K", "16K", "64K", "256K", "1M", "16M", "8G")
LOOPBACK = [f"bulk {size}" for size in ("64K", "256K", "1M", "16M", "8G")] + [
    f"answers {count}x{size}" for count in (1, 16, 64, 1024) for size in ("4K", "16K", "64K", "256K", "1M")]
LINK_COUNTS = (1, 64)
ALONE, STALLED = "stalled: 64x16K alone", "stalled: 10000 + 64x16K"
COLD = "cold: 16x1M cold + 16x16K"

# What is measured: its name, whether more is better, from a row of the CSV.
MEASURES = {
    "rate": (True, lambda row: row["gb_per_s"]),
    "cold and warm rate": (True, lambda row: row["gb_per_s"] + row["cold_gb_per_s"]),
    "CPU of both ends": (False, lambda row: row["server_cpu_s_per_gb"] + row["client_cpu_s_per_gb"]),
    "CPU of the machine": (False, lambda row: row["machine_cpu_s_per_gb"]),
    "p50": (False, lambda row: row["p50_us"]),
    "p99": (False, lambda row: row["p99_us"]),
}


def at_least(size, case):
    """Whether a case's operations have that size at least."""
    return SIZES.index(case.split()[-1].split("x")[-1]) >= SIZES.index(size)


def wire_aims():
    topic = "Zero-copy on the wire, of the better of sendfile and splice"
    registered = {
        1: (("16K", 0.9), ("64K", 1.0), ("256K", 1.35), ("1M", 1.6), ("16M", 1.6)),
        64: (("16K", 1.0), ("64K", 1.1), ("256K", 1.4), ("1M", 1.7), ("16M", 1.7)),
    }
    for count, rates in registered.items():
        for size, bound in rates:
            yield Aim(topic, f"wire {count}x{size}", "submit_zc", "rate", EITHER, bound)
    yield Aim(topic, "wire 1x1M", "submit_zc", "CPU of both ends", EITHER, 0.65)
    yield Aim(topic, "wire 64x1M", "submit_zc", "CPU of both ends", EITHER, 0.6)
    for size, bound in (("256K", 1.1), ("1M", 1.5), ("16M", 1.5)):
        yield Aim(topic, f"wire 64x{size}", "submit_zc_unregistered", "rate", EITHER, bound)
    yield Aim(topic, "wire 64x1M", "submit_zc_unregistered", "CPU of both ends", EITHER, 0.7)
    for size in ("1M", "16M"):
        yield Aim(topic, f"wire 1x{size}", "submit_zc_new_file", "rate", EITHER, 1.2)
    yield Aim(topic, "wire 1x1M", "submit_zc_new_file", "CPU of both ends", EITHER, 0.9)


def lan_aims():
    topic = "Zero-copy on the LAN, of sendfile"
    for count in LINK_COUNTS:
        for size in ("16K", "64K", "256K", "1M"):
            case = f"lan {count}x{size}"
            if at_least("256K", case):
                yield Aim(topic, case, "submit_zc", "rate", ("sendfile",), 1.0)
                yield Aim(topic, case, "submit_zc", "CPU of the machine", ("sendfile",), 1.0)
            yield Aim(topic, case, "submit_zc", "p50", ("sendfile",), 1.1)
            yield Aim(topic, case, "submit_zc", "p99", ("sendfile",), 1.1)


def copy_aims():
    topic = "Copies on loopback, of pread + send"
    for case in LOOPBACK:
        yield Aim(topic, case, "try_send", "rate", ("pread",), 0.97)
        if at_least("256K", case):
            yield Aim(topic, case, "try_send", "rate", ("pread",), 1.1)
        yield Aim(topic, case, "try_fixed", "rate", ("pread",), 1.0)
        if at_least("16K", case):
            yield Aim(topic, case, "submit_fixed", "rate", ("pread",), 0.9)
        if at_least("64K", case):
            yield Aim(topic, case, "submit", "rate", ("pread",), 0.85)
    yield Aim(topic, "answers 64x4K", "submit_fixed", "rate", ("pread",), 0.75)


def beside_aims():
    topic = "Warm answers beside others"
    for way in ("submit", "try_send"):
        yield Aim(f"{topic}: us, and of pread + send", COLD, way, "p99", None, 2000)
        yield Aim(f"{topic}: us, and of pread + send", COLD, way, "cold and warm rate", ("pread",), 0.9)
    for way in ("submit", "try_send"):
        for measure in ("p50", "p99"):
            yield Aim(f"{topic}: of what they take alone", STALLED, way, measure, (way,), 1.2, ALONE)


def frozen_aims():
    topic = "Content that cannot change, of sendfile"
    for kind in ("memfd", "squashfs"):
        for count in LINK_COUNTS:
            for size in ("64K", "256K", "1M"):
                for way in ("submit", "try_send"):
                    yield Aim(topic, f"{kind} {count}x{size}", way, "rate", ("sendfile",), 0.9)
            for way in ("submit_fixed", "try_fixed"):
                yield Aim(topic, f"{kind} {count}x1M", way, "rate", ("sendfile",), 0.95)
            for size in ("256K", "1M", "16M"):
                yield Aim(topic, f"{kind} wire {count}x{size}", "submit", "rate", ("sendfile",), 1.4)


def read(path):
    """{case: {way: [row of each round]}}"""
    cases = defaultdict(lambda: defaultdict(list))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            numbers = {key: float(value) for key, value in row.items() if key.endswith(("_per_s", "_per_gb", "_us"))}
            cases[row["case"]][row["way"]].append(numbers)
    return cases


def figure(cases, case, ways, measure):
    """The best median of those ways, or nan."""
    more, value = MEASURES[measure]
    medians = [statistics.median(value(row) for row in cases[case][way]) for way in ways if way in cases.get(case, ())]
    return (max if more else min)(medians, default=math.nan)


def outcome(cases, aim):
    own = figure(cases, aim.case, (aim.way,), aim.measure)
    if aim.others is None:
        return own
    other = figure(cases, aim.beside or aim.case, aim.others, aim.measure)
    return own / other if other else math.nan


def is_reached(aim, value):
    return value >= aim.bound if MEASURES[aim.measure][0] else value <= aim.bound


def bound_text(aim):
    return f"{'>=' if MEASURES[aim.measure][0] else '<='} {aim.bound:g}"


def print_topic(cases, topic, aims):
    """Returns how many are reached, and how many have been measured."""
    reached = measured = 0
    missing = defaultdict(list)
    print(f"\n{topic}")
    for aim in aims:
        value = outcome(cases, aim)
        if math.isnan(value):
            missing[f"{aim.way}, {aim.measure} {bound_text(aim)}"].append(aim.case)
            continue
        good = is_reached(aim, value)
        print(f"  {aim.case:26} {aim.way:22} {aim.measure:18} {value:8.2f}  {bound_text(aim)}{'' if good else '  MISSED'}")
        reached += good
        measured += 1
    for what, where in missing.items():
        print(f"  not measured: {what}: {', '.join(where)}")
    return reached, measured


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    cases = read(sys.argv[1])
    topics = defaultdict(list)
    for table in (wire_aims, lan_aims, copy_aims, beside_aims, frozen_aims):
        for aim in table():
            topics[aim.topic].append(aim)
    results = [print_topic(cases, topic, aims) for topic, aims in topics.items()]
    reached, measured = (sum(column) for column in zip(*results))
    print(f"\n{reached} of {measured} aims reached, {sum(map(len, topics.values())) - measured} more not measured")


if __name__ == "__main__":
    main()
