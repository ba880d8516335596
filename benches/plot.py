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

# In the order of ways.c: the name in the CSV, what a reader calls it, light colour, dark colour.
WAYS = [
    ("submit", "snapsend, submit and poll", "#c2410c", "#fb923c"),
    ("submit_many", "snapsend, submit_many and poll", "#a16207", "#facc15"),
    ("try_send", "snapsend, try_send", "#e11d48", "#fb7185"),
    ("sendfile", "sendfile", "#1d4ed8", "#60a5fa"),
    ("splice64k", "splice, pipe of 64 KiB", "#0e7490", "#22d3ee"),
    ("splice1m", "splice, pipe of 1 MiB", "#0f766e", "#2dd4bf"),
    ("pread", "pread + send", "#15803d", "#4ade80"),
    ("mmap", "mmap + send", "#4d7c0f", "#a3e635"),
    ("zerocopy", "MSG_ZEROCOPY", "#6d28d9", "#a78bfa"),
    ("uring_splice", "io_uring splice", "#475569", "#94a3b8"),
    ("uring_zc", "io_uring READ_FIXED + SEND_ZC", "#a21caf", "#e879f9"),
    ("uring_zc_plain", "the same, SEND_ZC by address", "#9d174d", "#f9a8d4"),
]

WIDTH = 900
LEFT, RIGHT = 70, 12
PANEL_HEIGHT = 190
PANEL_GAP = 52
TOP = 34
LEGEND_LINE = 18
LEGEND_COLUMNS = 3


def style():
    light = "".join(f".w{i}{{fill:{way[2]}}}" for i, way in enumerate(WAYS))
    dark = "".join(f".w{i}{{fill:{way[3]}}}" for i, way in enumerate(WAYS))
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


def read(path):
    """{case: {way: [row of each round]}}, with numbers where there are some."""
    cases = defaultdict(lambda: defaultdict(list))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for key, value in row.items():
                if key not in ("case", "way", "engine"):
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
    """One diagram: a group of bars for each label, a bar for each way."""

    def __init__(self, title, groups):
        self.title = title
        self.groups = groups  # [(label, {way: (median, lowest, highest)})]

    def draw(self, top):
        names = [way[0] for way in WAYS if any(way[0] in bars for _, bars in self.groups)]
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
        index, way = next((i, way) for i, way in enumerate(WAYS) if way[0] == name)
        middle = x + width / 2
        line = ""
        if bar[2] > bar[1]:
            line = (f'<line class="span" x1="{middle:.1f}" x2="{middle:.1f}" '
                    f'y1="{bottom - low:.1f}" y2="{bottom - high:.1f}"/>')
        return (f'<rect class="w{index}" x="{x:.1f}" y="{bottom - median:.1f}" width="{max(width - 1, 1):.1f}" '
                f'height="{median:.1f}"><title>{escape(label)}, {escape(way[1])}: {bar[0]:.4g}</title></rect>{line}')


def legend(names, top):
    out = []
    for place, (index, way) in enumerate((i, way) for i, way in enumerate(WAYS) if way[0] in names):
        x = LEFT + place % LEGEND_COLUMNS * (WIDTH - LEFT) / LEGEND_COLUMNS
        y = top + place // LEGEND_COLUMNS * LEGEND_LINE
        out.append(f'<rect class="w{index}" x="{x:.1f}" y="{y}" width="11" height="11"/>')
        out.append(f'<text class="small" x="{x + 16:.1f}" y="{y + 10}">{escape(way[1])}</text>')
    return "".join(out)


def write(path, panels):
    names = {name for panel in panels for _, bars in panel.groups for name in bars}
    y, body = TOP, []
    for panel in panels:
        body.append(panel.draw(y))
        y += PANEL_HEIGHT + PANEL_GAP
    body.append(legend(names, y - 16))
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


def groups_of(cases, wanted, value, label):
    """Groups in the order of the CSV, of the cases that wanted(name, row) picks."""
    groups = []
    for name, ways in cases.items():
        first = next(iter(ways.values()))[0]
        if wanted(name, first):
            groups.append((label(first), {way: spread(rows, value) for way, rows in ways.items()}))
    return groups


def panel(title, groups):
    return [Panel(title, groups)] if groups else []


def bulk(cases):
    def wanted(name, _row):
        return name.startswith("bulk ")

    def label(row):
        return size_text(int(row["size"]))

    return panel("Bulk, one connection over loopback: GB/s by size of an operation",
                 groups_of(cases, wanted, rate, label)) + panel(
        "The same: CPU seconds of the sender per GB (less is better)", groups_of(cases, wanted, server_cpu, label))


def answers(cases):
    panels = []
    names = [name for name in cases if name.startswith("answers ")]
    connections = sorted({int(next(iter(cases[name].values()))[0]["connections"]) for name in names})
    for count in connections:
        panels += panel(
            f"Request and answer, {count:,} connection{'s' if count > 1 else ''}: GB/s by size of an answer",
            groups_of(cases, lambda name, row, count=count: name in names and row["connections"] == count, rate,
                      lambda row: size_text(int(row["size"]))))
    return panels


def cold(cases):
    beside = groups_of(cases, lambda name, row: row["cold"] > 0, lambda row: row["cold_gb_per_s"],
                       lambda row: f"{int(row['cold'])} connections, 1 MiB each")
    return panel("Files that are not in the page cache: GB/s", beside) + panel(
        "Warm answers of 16 KiB meanwhile: 99th percentile in ms (less is better)",
        groups_of(cases, lambda name, row: name.startswith("cold:"), lambda row: row["p99_us"] / 1000,
                  lambda row: "beside the cold ones" if row["cold"] > 0 else "alone"))


def stalled(cases):
    def wanted(name, _row):
        return name.startswith("stalled:")

    return panel("64 connections, answers of 16 KiB, beside peers that do not read: 99th percentile in ms (less is better)",
                 groups_of(cases, wanted, lambda row: row["p99_us"] / 1000,
                           lambda row: f"beside {int(row['stalled']):,} stalled" if row["stalled"] > 0 else "alone"))


def wire(cases):
    def wanted(name, _row):
        return name.startswith("wire ")

    def label(row):
        return f"{int(row['connections'])} × {size_text(int(row['size']))}"

    return panel("A link that takes data without touching it: GB/s, connections × size of an operation",
                 groups_of(cases, wanted, rate, label)) + panel(
        "The same: CPU seconds of both ends per GB (less is better)", groups_of(cases, wanted, both_cpu, label))


PLOTS = {"bulk": bulk, "answers": answers, "cold": cold, "stalled": stalled, "wire": wire}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    cases = read(sys.argv[1])
    directory = Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or PLOTS:
        if name not in PLOTS:
            sys.exit(f"no such plot: {name}; there are {', '.join(PLOTS)}")
        panels = PLOTS[name](cases)
        if panels:
            write(directory / f"{name}.svg", panels)


if __name__ == "__main__":
    main()
