#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Draws the benchmark's figures: plot.py results.csv DIRECTORY [NAME...]

One SVG for each plot, of the medians over the rounds.  No fonts and no scripts of others'; the colours follow the
reader's preference for dark or light.  NAMEs pick plots (bulk, answers, ...); without any all are drawn that the CSV
has figures for.
"""

import csv
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape

# Five lines at most; the CSV has all ways.  Of each line the ways that it stands for, what a reader calls it, its
# colour on light and on dark pages.  The library's way is chosen for each plot.
LINES = [
    ("snapsend", (), "snapsend", "#c2410c", "#fb923c"),
    ("sendfile", ("sendfile",), "sendfile", "#1d4ed8", "#60a5fa"),
    ("splice", ("splice64k", "splice1m"), "splice, the better of two pipes", "#0f766e", "#2dd4bf"),
    ("pread", ("pread",), "pread + send", "#4d7c0f", "#a3e635"),
    ("raw_ring", ("raw_ring",), "a bare ring, SEND_ZC from a kept mapping", "#6d28d9", "#a78bfa"),
]

WIDTH = 900
LEFT, RIGHT = 70, 12
PANEL_HEIGHT = 190
PANEL_GAP = 52
TOP = 34
LEGEND_LINE = 18
LEGEND_COLUMNS = 3


def style():
    light = "".join(f".w{i}{{fill:{line[3]}}}" for i, line in enumerate(LINES))
    dark = "".join(f".w{i}{{fill:{line[4]}}}" for i, line in enumerate(LINES))
    return (
        "<style>text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}"
        ".small{font-size:11px}.grid{stroke:#8b949e;stroke-opacity:.35}.span{stroke:#1f2328;stroke-opacity:.7}"
        f"{light}"
        "@media (prefers-color-scheme: dark){text{fill:#e6edf3}.span{stroke:#e6edf3}"
        f"{dark}}}</style>"
    )


def size_text(size):
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return str(size)


TEXTS = ("case", "way", "engine", "processor", "kernel", "congestion_control")


def read(path):
    """{case: {way: [row of each round]}}, with numbers where there are some."""
    cases = defaultdict(lambda: defaultdict(list))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if key not in TEXTS:
                    row[key] = float(value) if value else math.nan
            cases[row["case"]][row["way"]].append(row)
    return cases


def spread(rows, value):
    """(median, lowest, highest)"""
    values = [value(row) for row in rows]
    return statistics.median(values), min(values), max(values)


def ticks(top):
    step = 10 ** math.floor(math.log10(top / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step * 5 >= top)
    return [step * i for i in range(int(top / step) + 1)]


class Panel:
    """One diagram: a group of bars for each label, a bar for each line."""

    def __init__(self, title, groups):
        self.title = title
        self.groups = groups  # [(label, {line: (median, lowest, highest)})]

    def draw(self, top):
        names = [line[0] for line in LINES if any(line[0] in bars for _, bars in self.groups)]
        highest = max(bar[2] for _, bars in self.groups for bar in bars.values()) or 1
        bottom = top + PANEL_HEIGHT
        group_width = (WIDTH - LEFT - RIGHT) / len(self.groups)
        bar_width = min(group_width * 0.86 / len(names), 26)
        out = [f'<text class="title" x="{LEFT}" y="{top - 12}">{escape(self.title)}</text>']
        for tick in ticks(highest):
            y = bottom - tick / highest * PANEL_HEIGHT
            out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(f'<text class="small" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        for index, (label, bars) in enumerate(self.groups):
            middle = LEFT + group_width * (index + 0.5)
            x = middle - bar_width * len(names) / 2
            for name in names:
                if name in bars:
                    out.append(self.bar(name, bars[name], x, bottom, bar_width, highest, label))
                x += bar_width
            out.append(f'<text class="small" x="{middle:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(label)}</text>')
        return "".join(out)

    @staticmethod
    def bar(name, bar, x, bottom, width, highest, label):
        median, low, high = (value / highest * PANEL_HEIGHT for value in bar)
        index, text = next((i, line[2]) for i, line in enumerate(LINES) if line[0] == name)
        middle = x + width / 2
        line = ""
        if bar[2] > bar[1]:
            line = (f'<line class="span" x1="{middle:.1f}" x2="{middle:.1f}" '
                    f'y1="{bottom - low:.1f}" y2="{bottom - high:.1f}"/>')
        return (f'<rect class="w{index}" x="{x:.1f}" y="{bottom - median:.1f}" width="{max(width - 1, 1):.1f}" '
                f'height="{median:.1f}"><title>{escape(label)}, {escape(text)}: {bar[0]:.4g}</title></rect>{line}')


def legend(names, library, top):
    out = []
    for place, (index, line) in enumerate((i, line) for i, line in enumerate(LINES) if line[0] in names):
        text = f"{line[2]}, {library}" if line[0] == "snapsend" else line[2]
        x = LEFT + place % LEGEND_COLUMNS * (WIDTH - LEFT) / LEGEND_COLUMNS
        y = top + place // LEGEND_COLUMNS * LEGEND_LINE
        out.append(f'<rect class="w{index}" x="{x:.1f}" y="{y}" width="11" height="11"/>')
        out.append(f'<text class="small" x="{x + 16:.1f}" y="{y + 10}">{escape(text)}</text>')
    return "".join(out)


def write(path, panels, library):
    names = {name for panel in panels for _, bars in panel.groups for name in bars}
    y, body = TOP, []
    for panel in panels:
        body.append(panel.draw(y))
        y += PANEL_HEIGHT + PANEL_GAP
    body.append(legend(names, library, y - 16))
    height = y - 16 + math.ceil(len(names) / LEGEND_COLUMNS) * LEGEND_LINE + 8
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(panels[0].title)}">\n'
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n"
        f'{style()}{"".join(body)}</svg>\n',
        encoding="utf-8",
    )
    print(path)


# ---- the plots -----------------------------------------------------------------------------


def rate(row):
    return row["gb_per_s"]


def server_cpu(row):
    return row["server_cpu_s_per_gb"]


def both_cpu(row):
    return row["server_cpu_s_per_gb"] + row["client_cpu_s_per_gb"]


def machine_cpu(row):
    return row["machine_cpu_s_per_gb"]


def p99_ms(row):
    return row["p99_us"] / 1000


LESS_IS_BETTER = (server_cpu, both_cpu, machine_cpu, p99_ms)


def bars_of(ways, library, value):
    """{line: (median, lowest, highest)}: of several ways the best median counts."""
    best = min if value in LESS_IS_BETTER else max
    bars = {}
    for line in LINES:
        stands_for = (library,) if line[0] == "snapsend" else line[1]
        spreads = [spread(ways[way], value) for way in stands_for if way in ways]
        if spreads:
            bars[line[0]] = best(spreads)
    return bars


def groups_of(cases, library, value, label, wanted=lambda row: True):
    """Groups in the order of the CSV, of the cases that wanted(row) picks."""
    groups = []
    for ways in cases.values():
        first = next(iter(ways.values()))[0]
        if wanted(first):
            groups.append((label(first), bars_of(ways, library, value)))
    return groups


def panel(title, groups):
    return [Panel(title, groups)] if groups else []


def size_of(row):
    return size_text(int(row["size"]))


def connections_and_size(row):
    return f"{int(row['connections'])} × {size_of(row)}"


def bulk(cases, library):
    return panel("Bulk, one connection over loopback: GB/s by size of an operation",
                 groups_of(cases, library, rate, size_of)) + panel(
        "The same: CPU seconds of the sender per GB (less is better)", groups_of(cases, library, server_cpu, size_of))


def answers(cases, library):
    panels = []
    connections = sorted({int(next(iter(ways.values()))[0]["connections"]) for ways in cases.values()})
    for count in connections:
        panels += panel(
            f"Request and answer, {count:,} connection{'s' if count > 1 else ''}: GB/s by size of an answer",
            groups_of(cases, library, rate, size_of, lambda row, count=count: row["connections"] == count))
    return panels


def cold(cases, library):
    beside = groups_of(cases, library, lambda row: row["cold_gb_per_s"],
                       lambda row: f"{int(row['cold'])} connections, 1 MiB each", lambda row: row["cold"] > 0)
    return panel("Files that are not in the page cache: GB/s", beside) + panel(
        "Warm answers of 16 KiB meanwhile: 99th percentile in ms (less is better)",
        groups_of(cases, library, p99_ms, lambda row: "beside the cold ones" if row["cold"] > 0 else "alone"))


def stalled(cases, library):
    return panel(
        "64 connections, answers of 16 KiB, beside peers that do not read: 99th percentile in ms (less is better)",
        groups_of(cases, library, p99_ms,
                  lambda row: f"beside {int(row['stalled']):,} stalled" if row["stalled"] > 0 else "alone"))


def wire(cases, library):
    return panel("A link that takes data without touching it: GB/s, connections × size of an operation",
                 groups_of(cases, library, rate, connections_and_size)) + panel(
        "The same: CPU seconds of both ends per GB (less is better)",
        groups_of(cases, library, both_cpu, connections_and_size))


def lan(cases, library):
    return panel("Answers over a link that copies each frame, as a network card does: GB/s, connections × size",
                 groups_of(cases, library, rate, connections_and_size)) + panel(
        "The same: CPU seconds of the whole machine per GB (less is better)",
        groups_of(cases, library, machine_cpu, connections_and_size)) + panel(
        "The same: 99th percentile in ms (less is better)",
        groups_of(cases, library, p99_ms, connections_and_size))


# With the library's way: the first of these that has been measured.
ON_LOOPBACK = ("try_fixed", "try_send", "submit")
ELSEWHERE = ("submit_zc", "try_send", "submit")
PLOTS = {
    "bulk": (bulk, ON_LOOPBACK),
    "answers": (answers, ON_LOOPBACK),
    "cold": (cold, ON_LOOPBACK),
    "stalled": (stalled, ON_LOOPBACK),
    "wire": (wire, ELSEWHERE),
    "lan": (lan, ELSEWHERE),
}


def draw(name, cases, directory):
    plot, preferred = PLOTS[name]
    own = {case: ways for case, ways in cases.items() if case.split()[0].rstrip(":") == name}
    measured = {way for ways in own.values() for way in ways}
    library = next((way for way in preferred if way in measured), preferred[-1])
    panels = plot(own, library)
    if panels:
        write(directory / f"{name}.svg", panels, library)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    cases = read(sys.argv[1])
    directory = Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or PLOTS:
        if name not in PLOTS:
            sys.exit(f"no such plot: {name}; there are {', '.join(PLOTS)}")
        draw(name, cases, directory)


if __name__ == "__main__":
    main()
