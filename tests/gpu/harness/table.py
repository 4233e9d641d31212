"""What is printed while cases end, and the file for other programs."""

import json

WIDTHS = (34, 11, 15, 15, 7)


def _line(*cells):
    texts = []
    for cell, width in zip(cells, WIDTHS):
        texts.append(f"{cell:<{width}}" if width in WIDTHS[:2] else f"{cell:>{width}}")
    return " ".join(texts).rstrip()


def head():
    return _line("case", "result", "native", "ours", "ratio")


def _number(value, unit):
    return f"{value:.4g} {unit}"


def rows(outcome):
    """The case's own row with seconds, one for each figure, then what is to be said."""
    native, ours = outcome["native"], outcome["ours"]
    seconds = [_number(side["seconds"], "s") if side else "-" for side in (native, ours)]
    lines = [_line(outcome["case"], outcome["status"], *seconds, "")]
    for key, figure in outcome["figures"].items():
        lines.append(
            _line(
                "  " + key,
                "",
                _number(figure["native"], figure["unit"]),
                _number(figure["ours"], figure["unit"]),
                f"{figure['ratio']:.2f}",
            )
        )
    lines += [f"    {reason}" for reason in outcome["reasons"]]
    return lines


def last_line(outcomes):
    counts = {}
    for outcome in outcomes:
        counts[outcome["status"]] = counts.get(outcome["status"], 0) + 1
    return f"{len(outcomes)} cases: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def write_json(path, machine, outcomes):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "cases": outcomes}, file, indent=1)
        file.write("\n")
