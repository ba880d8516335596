#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""
Draws what the sources of the library use of each other, from their lines with `crate::`.

    docs/rooms.py >docs/rooms.svg       the rooms of src/, each above what it uses
    docs/rooms.py --flat FOLDER         the modules of another src/ in a row, an arc for each use

src/lib.rs and the tests are left out: they may use everything.
"""
import re
import sys
from pathlib import Path

LEFT_OUT = {"lib", "tests", "model"}
WIDTH, MARGIN, GAP, LINE = 860, 20, 20, 17
STYLE = """<style>
 text { font: 12px ui-monospace, monospace; fill: #1f2328; }
 .head { font: 600 14px system-ui, sans-serif; }
 .note { font: 12px system-ui, sans-serif; }
 .unsafe { fill: #bc4c00; font-weight: 600; }
 .page { fill: #ffffff; }
 .box { fill: #f6f8fa; stroke: #57606a; stroke-width: 1.2; }
 .line { fill: none; stroke: #57606a; stroke-width: 1.2; }
 .arc { fill: none; stroke: #0969da; stroke-opacity: 0.45; }
 .tip { fill: #57606a; }
 @media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .unsafe { fill: #ffa657; }
  .page { fill: #0d1117; }
  .box { fill: #161b22; stroke: #8b949e; }
  .line { stroke: #8b949e; }
  .arc { stroke: #58a6ff; }
  .tip { fill: #8b949e; }
 }
</style>
<defs>
 <marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"
  orient="auto">
  <path class="tip" d="M0 0 8 4 0 8z"/>
 </marker>
</defs>"""


def modules(folder):
    """The files of each module of a src/ folder."""
    found = {}
    for file in sorted(folder.rglob("*.rs")):
        name = file.relative_to(folder).parts[0].removesuffix(".rs")
        if name not in LEFT_OUT:
            found.setdefault(name, []).append(file)
    return found


def code(file):
    """Its text without comments and without the unit tests at its end."""
    return re.sub(r"//.*", "", file.read_text().split("#[cfg(test)]\nmod tests")[0])


def uses(found):
    """What each module uses of the others."""
    text = {name: "".join(map(code, files)) for name, files in found.items()}
    named = {name: set(re.findall(r"\bcrate::(\w+)", text[name])) for name in found}
    return {name: named[name] & (set(found) - {name}) for name in found}


def reachable(used, name):
    return used[name].union(*(reachable(used, other) for other in used[name]))


def direct(used):
    """Without what a longer way leads to, too."""
    below = {name: set().union(*(reachable(used, other) for other in used[name])) for name in used}
    return {name: used[name] - below[name] for name in used}


def floors(used):
    """The rooms from top to bottom, each as low as what it uses lets it be."""
    def height(name):
        return 1 + max(map(height, used[name]), default=0)

    rows = {}
    for name in sorted(used):
        rows.setdefault(height(name), []).append(name)
    return [rows[number] for number in sorted(rows, reverse=True)]


def svg(height, title, description, body):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="title desc">',
        "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->",
        f'<title id="title">{title}</title>',
        f'<desc id="desc">{description}</desc>',
        STYLE,
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        *body,
        "</svg>",
    ])


def label(folder, name, file):
    """A file as its room shows it, and whether it has unsafe code."""
    path = file.relative_to(folder)
    shown = path.relative_to(name) if len(path.parts) > 1 else path
    is_unsafe = re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b)", code(file))
    return str(shown).removesuffix(".rs"), is_unsafe


def lines_of(labels, width):
    """Labels in lines of at most this many characters."""
    lines, length = [[]], 0
    for text, is_unsafe in labels:
        if lines[-1] and length + 2 + len(text) > width:
            lines.append([])
            length = 0
        lines[-1].append((text, is_unsafe))
        length += 2 + len(text)
    return lines


def room(name, x, y, width, height, lines):
    yield f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
    yield f'<text class="head" x="{x + 12}" y="{y + 21}">{name}</text>'
    for number, line in enumerate(lines):
        marked = (f'<tspan class="unsafe">{text}</tspan>' if mark else text for text, mark in line)
        at = f'x="{x + 12}" y="{y + 41 + LINE * number}"'
        yield f'<text {at} xml:space="preserve">{"  ".join(marked)}</text>'


def rooms(folder):
    found = modules(folder)
    used = direct(uses(found))
    rows = floors(used)
    floor = {name: number for number, row in enumerate(rows) for name in row}
    # An arrow that passes a floor has a lane at its right.
    arrows = [(name, to) for name in used for to in sorted(used[name])]
    passing = [(name, to) for name, to in arrows if floor[to] > floor[name] + 1]
    boxes, body, y = {}, [], 64
    for number, row in enumerate(rows):
        lanes = sum(floor[name] < number < floor[to] for name, to in passing)
        width = (WIDTH - 2 * MARGIN - 2 * GAP * lanes - GAP * (len(row) - 1)) // len(row)
        labels = {name: [label(folder, name, file) for file in found[name]] for name in row}
        lines = {name: lines_of(labels[name], width // 7.3 - 3) for name in row}
        height = 34 + LINE * max(map(len, lines.values()))
        for place, name in enumerate(row):
            boxes[name] = (MARGIN + place * (width + GAP), y, width, height)
            body.extend(room(name, *boxes[name], lines[name]))
        y += height + 34
    for name, to in arrows:
        (x, top, width, height), (other_x, other_top, other_width, _) = boxes[name], boxes[to]
        at = x + width // 2
        if (name, to) in passing:
            at = WIDTH - MARGIN - GAP - 2 * GAP * passing.index((name, to))
        elif not other_x < at < other_x + other_width:
            at = other_x + other_width // 2
        path = f"M{at} {top + height} {at} {other_top}"
        body.append(f'<path class="line" marker-end="url(#tip)" d="{path}"/>')
    head = [
        f'<text class="head" x="{MARGIN}" y="28">The rooms of src/</text>',
        f'<text class="note" x="{MARGIN}" y="48">An arrow leads to the next room down; a room may '
        'use those further down, too. <tspan class="unsafe">Coloured: unsafe code.</tspan></text>',
    ]
    order = ", ".join(" and ".join(row) for row in rows)
    description = f"From top to bottom, each using only what is below it: {order}."
    return svg(y - 14, "The rooms of src/", description, head + body)


def flat(folder):
    found = modules(folder)
    used = uses(found)
    names = sorted(found)
    step = (WIDTH - 2 * MARGIN) / len(names)
    at = {name: MARGIN + step * (number + 0.5) for number, name in enumerate(names)}
    base, body = 330, []
    for name in names:
        for to in sorted(used[name]):
            start, end = sorted((at[name], at[to]))
            radii = f"{(end - start) / 2:.0f} {(end - start) * 0.35:.0f}"
            path = f"M{start:.0f} {base}A{radii} 0 0 1 {end:.0f} {base}"
            body.append(f'<path class="arc" d="{path}"/>')
    for name in names:
        x, width = at[name] - step / 2 + 3, step - 6
        place = f'x="{x:.0f}" y="{base}" width="{width:.0f}" height="130"'
        turned = f"translate({at[name] + 4:.0f} {base + 122})rotate(-90)"
        body.append(f'<rect class="box" {place} rx="4"/>')
        body.append(f'<text transform="{turned}">{name}</text>')
    count = sum(map(len, used.values()))
    caption = f"{len(names)} modules side by side, and an arc for each of {count} uses"
    head = f'<text class="head" x="{MARGIN}" y="28">{caption}</text>'
    description = "Each uses several of the others: " + ", ".join(names) + "."
    title = "The modules of src/ before they were grouped"
    return svg(base + 150, title, description, [head] + body)


if sys.argv[1:2] == ["--flat"]:
    print(flat(Path(sys.argv[2])))
else:
    print(rooms(Path(__file__).resolve().parent.parent / "src"))
