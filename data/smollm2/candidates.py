"""Makes the sequences that SmolLM2 may recite, and their controls.

A small pretrained model recites hardly any prose, but it counts, spells alphabets and names months in many
layouts. This script writes such sequences, each with a control in the same layout whose items stand in a
random order. `rote-extract` then finds which of them the model really recites.

    python3 data/smollm2/candidates.py OUT.jsonl

They stand in a random order, each control after its candidate, so that the first few hundred are a sample of
all. Standard library only; the same bytes on every run. Fields: `text`, `role` (`candidate`
or `control`), `family` (what is enumerated) and `layout` (how).
"""

import json
import random
import sys

SEED = 20250107
# A text must be longer than prefix + suffix (64 tokens); it may be much longer, prepare cuts it.
LENGTH = 420

MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NATO = (
    "Alpha Bravo Charlie Delta Echo Foxtrot Golf Hotel India Juliett Kilo Lima Mike November Oscar Papa "
    "Quebec Romeo Sierra Tango Uniform Victor Whiskey X-ray Yankee Zulu"
).split()
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau "
    "upsilon phi chi psi omega"
).split()
NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
LOWER = [chr(code) for code in range(ord("a"), ord("z") + 1)]
UPPER = [chr(code) for code in range(ord("A"), ord("Z") + 1)]


def code(items, before, after, quote='"', join=", "):
    return before + join.join(quote + str(item) + quote for item in items) + after


# Layouts take the items in order and give a text.
JOINED = {
    "comma": lambda items: ", ".join(map(str, items)),
    "blank": lambda items: " ".join(map(str, items)),
    "line": lambda items: "\n".join(map(str, items)),
    "tight comma": lambda items: ",".join(map(str, items)),
    "semicolon": lambda items: "; ".join(map(str, items)),
    "dash": lambda items: " - ".join(map(str, items)),
    "arrow": lambda items: " -> ".join(map(str, items)),
    "bullet": lambda items: "\n".join(f"- {item}" for item in items),
    "bar": lambda items: " | ".join(map(str, items)),
}
LISTED = {
    "python list": lambda items: code(items, "items = [", "]"),
    "python list, single": lambda items: code(items, "items = [", "]", "'"),
    "json lines": lambda items: code(items, "[\n  ", "\n]", '"', ",\n  "),
    "java enum": lambda items: "enum Item {\n    " + ",\n    ".join(str(item).upper() for item in items) + "\n}",
    "numbered": lambda items: "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1)),
    "dictionary": lambda items: "{\n"
    + "\n".join(f"    {number}: '{item}'," for number, item in enumerate(items, 1))
    + "\n}",
    "options": lambda items: "\n".join(
        f'<option value="{number}">{item}</option>' for number, item in enumerate(items, 1)
    ),
    "case": lambda items: "\n".join(
        f'case {number}: return "{item}";' for number, item in enumerate(items, 1)
    ),
}


def repeated(items):
    """The items over and over until the text is long enough."""
    items = list(items)
    while sum(len(str(item)) + 2 for item in items) < LENGTH:
        items = items + items
    return items


def runs():
    """(family, items, layouts): what is enumerated, in its order."""
    for start in (1, 7, 12, 31, 50, 88, 101, 250, 990, 1001):
        yield f"count from {start}", list(range(start, start + 160)), JOINED
    for step in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 25, 50, 100):
        for start in (step, 10 * step):
            yield f"count by {step}", list(range(start, start + 120 * step, step)), JOINED
    for start in (100, 60, 200):
        yield f"count down from {start}", list(range(start, 0, -1)), JOINED
    yield "odd numbers", list(range(1, 241, 2)), JOINED
    yield "squares", [number * number for number in range(1, 90)], JOINED
    yield "powers of two", [2**exponent for exponent in range(50)], JOINED
    yield "years", list(range(1900, 2026)), JOINED
    yield "years", list(range(1750, 1880)), JOINED
    for name, items in (
        ("lower alphabet", LOWER),
        ("upper alphabet", UPPER),
        ("months", MONTHS),
        ("days", DAYS),
        ("NATO alphabet", NATO),
        ("Greek alphabet", GREEK),
        ("planets", PLANETS),
        ("number words", NUMBERS),
        ("short months", [month[:3] for month in MONTHS]),
        ("short days", [day[:3] for day in DAYS]),
    ):
        yield name, repeated(items), JOINED
        yield name, repeated(items), LISTED
    for unit in (["ab"], ["0", "1"], ["na"], ["la", "la", "di"], ["foo", "bar"], ["*", "-"], ["1", "2", "3"]):
        yield "repeated unit", repeated(unit * 40), JOINED


def pairs():
    """(family, layout, lines): sequences whose lines are computed one by one."""
    for factor in range(2, 21):
        for layout, line in (
            ("table", "{a} x {b} = {c}"),
            ("table, reversed", "{b} x {a} = {c}"),
            ("table, star", "{a} * {b} = {c}"),
            ("table, words", "{a} times {b} is {c}."),
        ):
            yield f"times {factor}", layout, [
                line.format(a=factor, b=number, c=factor * number) for number in range(1, 61)
            ]
    for term in range(1, 13):
        for layout, line in (("sum", "{b} + {a} = {c}"), ("sum, reversed", "{a} + {b} = {c}")):
            yield f"plus {term}", layout, [
                line.format(a=term, b=number, c=term + number) for number in range(1, 61)
            ]
    for layout, line in (
        ("numbered step", "Step {n}"),
        ("chapter", "Chapter {n}"),
        ("assignment", "x{n} = {n}"),
        ("array", "a[{n}] = {n};"),
        ("item", "item_{n}"),
        ("row", "<tr><td>{n}</td></tr>"),
        ("figure", "Figure {n}."),
        ("print", 'print("{n}")'),
        ("page", "Page {n} of 100"),
        ("import", "from .module{n} import Class{n}"),
        ("constant", "#define VALUE_{n} {n}"),
        ("hexadecimal", "0x{n:02x}"),
        ("binary", "{n:08b}"),
        ("zero-padded", "{n:03d}"),
        ("date", "2021-03-{d:02d}"),
        ("time", "{h:02d}:{m:02d}"),
        ("version", "v1.{n}.0"),
        ("percent", "{n}%"),
    ):
        for start in (1, 20, 60):
            lines = []
            for n in range(start, start + 70):
                lines.append(line.format(n=n, d=(n - 1) % 31 + 1, h=n // 4 % 24, m=n % 4 * 15))
            yield "lines with a number", f"{layout} from {start}", lines


def sequences():
    """(family, layout, text in order, text shuffled)."""
    chance = random.Random(SEED)

    def shuffled(items):
        items = list(items)
        chance.shuffle(items)
        return items

    for family, items, layouts in runs():
        for layout, make in layouts.items():
            yield family, layout, make(items), make(shuffled(items))
    for family, layout, lines in pairs():
        yield family, layout, "\n".join(lines), "\n".join(shuffled(lines))


def main(path):
    written = set()
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        every = list(sequences())
        random.Random(SEED + 1).shuffle(every)
        for family, layout, ordered, shuffled in every:
            for role, text in (("candidate", ordered), ("control", shuffled)):
                if text in written:
                    continue
                written.add(text)
                row = {"text": text, "role": role, "family": family, "layout": layout}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(written)} sequences in {path}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
