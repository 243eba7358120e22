"""Draws the diagram of the model for the README: docs/model_light.svg and docs/model_dark.svg."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ddr_tf import cli

WIDTH, HEIGHT = 900, 300
COLOURS = {  # GitHub's own, so that the diagram looks at home in both of its themes
    "light": {"ink": "#1f2328", "faint": "#656d76", "fill": "#f6f8fa", "static": "#0969da", "dynamic": "#bc4c00"},
    "dark": {"ink": "#e6edf3", "faint": "#9198a1", "fill": "#161b22", "static": "#58a6ff", "dynamic": "#f0883e"},
}
# Latin letters with subscripts, as SVG markup.
X_ALL = 'x<tspan class="sub">1</tspan> … x<tspan class="sub">N</tspan>'
X_I, Z_I = 'x<tspan class="sub">i</tspan>', 'z<tspan class="sub">i</tspan>'


def text(x: float, y: float, content: str, kind: str) -> str:
    """A centred line of text; `kind` is a class of the style sheet."""
    return f'<text x="{x}" y="{y}" class="{kind}">{content}</text>'


def box(x: float, y: float, width: float, lines: Sequence[str], height: float = 62) -> str:
    """A network: its density in the first line, what it does in the others; (x, y) is the centre."""
    rectangle = f'<rect x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="8"/>'
    first = y - 9 * (len(lines) - 1) + 5
    kinds = ["name", *["note"] * (len(lines) - 1)]
    return rectangle + "".join(
        text(x, first + 19 * number, line, kind) for number, (line, kind) in enumerate(zip(lines, kinds, strict=True))
    )


def code(x: float, y: float, name: str, kind: str) -> str:
    """A latent variable, as a circle."""
    return f'<circle cx="{x}" cy="{y}" r="26" class="{kind}"/>' + text(x, y + 6, name, f"code {kind}")


def frames(x: float, y: float, label: str, note: str, count: int = 3) -> str:
    """A stack of frames with a label below."""
    places = [12 * (number - (count - 1) / 2) for number in range(count)]
    stack = "".join(f'<rect x="{x - 27 + place}" y="{y - 27 - place}" width="54" height="54"/>' for place in places)
    return stack + text(x, y + 62, label, "name") + text(x, y + 82, note, "note")


def arrow(path: str, kind: str = "arrow") -> str:
    """An SVG path with a head at its end."""
    return f'<path d="{path}" class="{kind}" marker-end="url(#head)"/>'


def diagram(theme: str) -> str:
    """The diagram as SVG: `theme` is "light" or "dark"."""
    colours = COLOURS[theme]
    parts = [
        frames(62, 138, X_ALL, "frames, in any order"),
        box(255, 70, 176, [f"q(f | {X_ALL})", "compares all pairs of frames"]),
        box(255, 220, 176, [f"q({Z_I} | {X_I}, f)", "looks at one frame"]),
        box(435, 145, 132, ["p(z | f)", "learned prior"], 54),
        code(565, 70, "f", "static"),
        code(565, 220, Z_I, "dynamic"),
        text(565, 30, "static: who", "note static"),
        text(565, 266, "dynamic: which pose", "note dynamic"),
        box(710, 145, 120, [f"p({X_I} | f, {Z_I})", "decoder"]),
        frames(842, 138, X_I, "decoded", 1),
        arrow("M107 120 C130 90 135 70 160 70"),
        arrow("M107 150 C130 190 135 220 160 220"),
        arrow("M343 70 H532"),
        arrow("M343 220 H532"),
        arrow("M545 88 C470 105 470 105 459 113"),
        arrow("M503 165 C535 175 545 183 552 190", "arrow dashed"),
        arrow("M435 70 C390 120 300 120 270 184"),
        arrow("M591 76 C625 90 640 115 648 122"),
        arrow("M591 214 C625 200 640 175 648 168"),
        arrow("M770 145 H806"),
    ]
    style = f"""
text {{ text-anchor: middle; fill: {colours["ink"]}; font: 15px sans-serif; }}
.name {{ font: italic 17px serif; }} .code {{ font: italic 22px serif; }}
.note {{ fill: {colours["faint"]}; font-size: 13px; }} .sub {{ font-size: 70%; baseline-shift: sub; }}
rect, circle {{ fill: {colours["fill"]}; stroke: {colours["ink"]}; stroke-width: 1.5; }}
.arrow {{ fill: none; stroke: {colours["faint"]}; stroke-width: 1.5; }} .dashed {{ stroke-dasharray: 5 4; }}
circle.static {{ stroke: {colours["static"]}; stroke-width: 2.5; }} text.static {{ fill: {colours["static"]}; }}
circle.dynamic {{ stroke: {colours["dynamic"]}; stroke-width: 2.5; }} text.dynamic {{ fill: {colours["dynamic"]}; }}
"""
    head = '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    head += f'<path d="M0 0 L8 4 L0 8 z" fill="{colours["faint"]}"/></marker>'
    title = "Frames to the static code f and dynamic codes z, and back to frames"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n<title>{title}</title>\n'
        f"<style>{style}</style>\n<defs>{head}</defs>\n{body}\n</svg>\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes both files."""
    flags = argparse.ArgumentParser(prog="python tools/draw_model.py", description=__doc__)
    flags.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs", metavar="DIR")
    folder = flags.parse_args(arguments).out

    def body() -> None:
        files = {folder / f"model_{theme}.svg": diagram(theme) for theme in COLOURS}
        for path in files:
            cli.check_writable(path, "--out:")
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")

    return cli.run(body, needs_tensorflow=False)


if __name__ == "__main__":
    sys.exit(main())
