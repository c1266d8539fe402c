"""Progress of a publication: shown where somebody looks, with the time left."""

import io

from resnet_export.progress import shown_on
from rich.console import Console


def test_a_terminal_shows_what_is_done_how_far_it_is_and_the_time_left() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, color_system=None)
    with shown_on(console, wanted=True) as steps:
        steps.expect(200)
        steps.step("int8: calibration 3 of 12")
        steps.advance(50)
        steps.expect(200)
        steps.advance(50)
    shown = written.getvalue()
    assert "int8: calibration 3 of 12" in shown
    assert "25%" in shown  # 100 of 400: the total grew
    assert "left" in shown


def test_a_file_and_a_program_get_nothing() -> None:
    for console, wanted in ((Console(file=io.StringIO()), True), (Console(file=io.StringIO(), force_terminal=True), False)):
        with shown_on(console, wanted=wanted) as steps:
            steps.expect(10)
            steps.step("reference")
            steps.advance(10)
        assert isinstance(console.file, io.StringIO)
        assert console.file.getvalue() == ""
