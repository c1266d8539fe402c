"""The files of a report."""

from pathlib import Path

from resnet_bench.errors import BenchError
from resnet_bench.report.csv_file import save_csv
from resnet_bench.schema import Report


def save_all(report: Report, folder: Path) -> list[Path]:
    """Write results.json, results.csv and report.html; return their paths. Raises BenchError without matplotlib."""
    paths = [report.save(folder), save_csv(report, folder / "results.csv")]
    try:
        from resnet_bench.report.page import save_page  # matplotlib: only a report needs it
    except ImportError as error:
        raise BenchError(f"report.html needs {error.name}: pip install 'resnet-serving[bench]'; {paths[0]} is saved") from None
    return [*paths, save_page(report, folder / "report.html")]
