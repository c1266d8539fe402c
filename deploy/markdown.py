"""Tables as pages hold them."""

from collections.abc import Iterable


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]], left: int = 1) -> str:
    """A table; the columns after the first `left` are numbers."""
    titles = list(header)
    lines = [titles, [*["---"] * left, *["---:"] * (len(titles) - left)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
