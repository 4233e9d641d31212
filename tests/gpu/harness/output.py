"""What a case said: results, figures, failures; and the comparison of two sides."""

import re

REFUSED = re.compile(r"^ivgpu: (.+) is not carried\b", re.MULTILINE)
NOTED = re.compile(r"^(ivgpu-exec.*|ivgpu: (?!.* is not carried).*)$", re.MULTILINE)
# What a program of tests/cuda measured, in whatever line: taken out before lines are compared.
MEASURED = re.compile(r"\b\d+(?:\.\d+)?(?:e[-+]?\d+)? ?(?:ns|us|ms|s|GB/s|MB/s|MiB/s)\b")
HANG_FRAME = re.compile(r'^  File "([^"]+)", line (\d+) in (\S+)', re.MULTILINE)


class Output:
    """One run's lines, sorted by meaning. Raises ValueError on a line that breaks the rules: the case is wrong then."""

    def __init__(self, stdout):
        self.results, self.figures, self.parts = {}, {}, {}
        self.failed, self.missing, self.skipped, self.errors = [], [], [], []
        for line in stdout.splitlines():
            word, _, rest = line.partition(" ")
            reader = getattr(self, "_read_" + word, None) if word in READ else None
            if reader:
                try:
                    reader(rest)
                except (ValueError, IndexError) as error:
                    self.errors.append(f"unreadable line '{line[:120]}': {error}")

    def _read_result(self, rest):
        key, _, value = rest.partition(" ")
        rule, bound = "same", None
        match = re.fullmatch(r"(.*) (within|below) (\S+)", value)
        if match:
            value, rule, bound = match[1], match[2], float(match[3])
            float(value)
        if not key or key in self.results:
            raise ValueError("no key" if not key else f"{key} a second time")
        self.results[key] = (value, rule, bound)

    def _read_figure(self, rest):
        key, value, unit, *better = rest.split()
        if better not in ([], ["lower"], ["higher"]) or key in self.figures or float(value) <= 0:
            raise ValueError("a figure is KEY VALUE UNIT [lower|higher], once, above 0")
        self.figures[key] = (float(value), unit, better[0] if better else "lower")

    def _read_part(self, rest):
        name, seconds = rest.split()
        self.parts[name] = float(seconds)

    def _read_failed(self, rest):
        self.failed.append(rest)

    def _read_missing(self, rest):
        self.missing.append(rest)

    def _read_skipped(self, rest):
        self.skipped.append(rest)


READ = ("result", "figure", "part", "failed", "missing", "skipped")


def program_output(stdout, figures, last_line_only):
    """A program of tests/cuda speaks to people: what it said but for times are its results.
    figures: {key: (pattern, unit)}"""
    output = Output("")
    lines = [line for line in stdout.splitlines() if line.strip()]
    for number, line in enumerate(lines[-1:] if last_line_only else lines):
        if line.startswith("skipped"):
            output.skipped.append(line)
        output.results[f"line{number}"] = (MEASURED.sub("#", line), "same", None)
    for key, (pattern, unit) in figures.items():
        match = re.search(pattern, stdout)
        if match and float(match[1]) > 0:
            output.figures[key] = (float(match[1]), unit, "lower")
    return output


def _result_differs(native, ours):
    """Words, or nothing. The native side's rule holds: the same case printed both."""
    (a, rule, bound), (b, rule_b, bound_b) = native, ours
    if (rule, bound) != (rule_b, bound_b):
        return f"native states '{rule} {bound}', ours '{rule_b} {bound_b}'"
    if rule == "same":
        return None if a == b else f"native {a}, ours {b}"
    x, y = float(a), float(b)
    if rule == "below":  # written so that NaN is no success
        return None if x < bound and y < bound else f"native {a}, ours {b}, allowed below {bound:g}"
    return None if abs(x - y) <= bound * max(abs(x), abs(y)) else f"native {a}, ours {b}, allowed within {bound:g}"


def differences(native, ours):
    """One line for each result that is not what it must be."""
    lines = []
    for key in list(native.results) + [key for key in ours.results if key not in native.results]:
        if key not in ours.results:
            lines.append(f"{key}: only natively ({native.results[key][0][:80]})")
        elif key not in native.results:
            lines.append(f"{key}: only through ivgpu ({ours.results[key][0][:80]})")
        else:
            words = _result_differs(native.results[key], ours.results[key])
            if words:
                lines.append(f"{key}: {words}")
    return lines


def ratio(native, ours):
    """As a ratio of times, whatever is measured: below 1, ours is faster."""
    value = ours[0] / native[0]
    return 1 / value if native[2] == "higher" else value


def refused_names(stderr):
    return sorted(set(REFUSED.findall(stderr)))


def noted_lines(stderr):
    """Other lines of our libraries, each once."""
    return sorted(set(NOTED.findall(stderr)))


def last_words(stderr):
    """Where a hung Python stood, else the last line that says anything."""
    frame = HANG_FRAME.search(stderr)
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("ivgpu")]
    words = lines[-1][:300] if lines else ""
    return f"{words} (stood at {frame[1]}:{frame[2]} in {frame[3]})" if frame else words
