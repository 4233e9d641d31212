"""Line charts as SVG, with the standard library alone: panels side by side, lines with dots, axes linear or logarithmic."""
import math
from xml.sax.saxutils import escape

COLOURS = ("#1f4e9c", "#c23b22", "#2e8b57", "#b8860b", "#6a3d9a", "#444444")
PANEL_WIDTH, PANEL_HEIGHT = 520, 380
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 34, 48
LEGEND_LINE = 16


class Axis:
    """Ticks are (value, label); with `log`, values are above zero."""

    def __init__(self, label, ticks, log=False):
        self.label, self.ticks, self.log = label, ticks, log
        self.low, self.high = self._scale(ticks[0][0]), self._scale(ticks[-1][0])

    def _scale(self, value):
        return math.log10(value) if self.log else value

    def place(self, value):
        """0 at the first tick, 1 at the last; values beyond stay on the border."""
        part = (self._scale(value) - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, part))


class Line:
    def __init__(self, name, points, colour, dashed=False):
        self.name, self.points, self.colour, self.dashed = name, points, colour, dashed


def decades(values, label):
    """A logarithmic axis around the values, a tick for each power of ten."""
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    return Axis(label, [(10.0 ** e, f"{10.0 ** e:g}") for e in range(low, high + 1)], log=True)


def _text(x, y, text, anchor="middle", size=11, turn=False):
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"{turned}>{escape(text)}</text>'


class Panel:
    def __init__(self, title, x, y, lines):
        self.title, self.x, self.y, self.lines = title, x, y, lines

    def draw(self, left, top):
        x0, y0 = left + LEFT, top + PANEL_HEIGHT - BOTTOM
        width, height = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM
        out = [_text(x0 + width / 2, top + 20, self.title, size=13)]
        for value, label in self.x.ticks:
            x = x0 + self.x.place(value) * width
            out.append(f'<line x1="{x:.1f}" y1="{y0}" x2="{x:.1f}" y2="{y0 - height}" stroke="#e4e4e4"/>')
            out.append(_text(x, y0 + 15, label, size=9))
        for value, label in self.y.ticks:
            y = y0 - self.y.place(value) * height
            out.append(f'<line x1="{x0}" y1="{y:.1f}" x2="{x0 + width}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            out.append(_text(x0 - 5, y + 4, label, anchor="end", size=10))
        out.append(f'<rect x="{x0}" y="{y0 - height}" width="{width}" height="{height}" fill="none" stroke="#444"/>')
        out.append(_text(x0 + width / 2, y0 + 36, self.x.label))
        out.append(_text(left + 14, y0 - height / 2, self.y.label, turn=True))
        for line in self.lines:
            out += self._draw_line(line, x0, y0, width, height)
        for number, line in enumerate(self.lines):
            y = y0 - height + 14 + number * LEGEND_LINE
            dash = ' stroke-dasharray="5 3"' if line.dashed else ""
            out.append(f'<line x1="{x0 + 8}" y1="{y - 4}" x2="{x0 + 34}" y2="{y - 4}" stroke="{line.colour}" '
                       f'stroke-width="2"{dash}/>')
            out.append(_text(x0 + 40, y, line.name, anchor="start"))
        return out

    def _draw_line(self, line, x0, y0, width, height):
        places = [(x0 + self.x.place(x) * width, y0 - self.y.place(y) * height) for x, y in line.points]
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out = [f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>']
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{line.colour}"/>' for x, y in places]
        return out


def write(path, panels, columns=2):
    rows = (len(panels) + columns - 1) // columns
    width, height = PANEL_WIDTH * min(columns, len(panels)), PANEL_HEIGHT * rows
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for number, panel in enumerate(panels):
        out += panel.draw(number % columns * PANEL_WIDTH, number // columns * PANEL_HEIGHT)
    out.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")
