"""python -m tests.abuse.table writes the tables of docs/abuse.md anew."""

from pathlib import Path

from tests.abuse.shapes import GROUPS

FILE = Path(__file__).parents[2] / "docs" / "abuse.md"
BEGIN, END = "<!-- tests/abuse/shapes.py -->\n", "<!-- end -->\n"


def tables() -> str:
    lines = []
    for title, shapes in GROUPS.items():
        lines += [f"### {title}", "", "| sent | UserLB | UserProxy |", "|---|---|---|"]
        lines += [f"| {shape.name} | {shape.userlb} | {shape.userproxy} |" for shape in shapes]
        lines.append("")
    return "\n".join(lines)


def document(text: str) -> str:
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    FILE.write_text(document(FILE.read_text()))
