"""Turns measurements into tables of Markdown."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from .bare_sql import BareMeasurement
from .compare import Measurement, Point

Results = Mapping[Point, Sequence[Measurement]]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, labels: int = 2) -> str:
    """Aligned, so that it reads well as plain text too; after `labels` columns come numbers."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < labels else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if i < labels else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    ]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that is not exceeded by `share` of them (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def comparison(results: Results, servers: Sequence[str]) -> str:
    """All figures, a table for each number of connections."""
    parts = []
    for connections in sorted({point.connections for point in results}):
        rows = [
            [route, server, *_figures(results[Point(connections, route, server)])]
            for route in _routes(results, connections)
            for server in servers
        ]
        parts.append(f"### {connections:,} connection{'s' * (connections > 1)}\n")
        parts.append(table(_COLUMNS, rows) + "\n")
    return "\n".join(parts)


def ratios(results: Results, ours: str, others: Sequence[str]) -> str:
    """Ours over the others: CPU time and p95 (below 1 is better), requests/s (above 1 is)."""
    rows = []
    for connections in sorted({point.connections for point in results}):
        for route in _routes(results, connections):
            mine = results[Point(connections, route, ours)]
            row = [f"{connections:,}", route]
            for other in others:
                theirs = results[Point(connections, route, other)]
                row += [
                    f"{_median(mine, figure) / _median(theirs, figure):.2f}"
                    for figure in (_cpu_us, _rate, _p95_ms)
                ]
            rows.append(row)
    header = ["connections", "route"]
    for other in others:
        header += [f"CPU, {ours} / {other}", "requests/s", "p95"]
    return table(header, rows) + "\n"


def bare_sql(
    results: Mapping[str, Sequence[BareMeasurement]], obstacles: Mapping[str, str | None]
) -> str:
    """A row for each route; where there is an obstacle, it stands in the place of figures."""
    rows = []
    for route, measurements in results.items():
        cpu = [m.postgres_cpu_us for m in measurements if m.postgres_cpu_us is not None]
        obstacle = obstacles[route]
        figures = (
            [f"not measured: {obstacle}", "", ""]
            if obstacle
            else [
                f"{statistics.median(m.rate for m in measurements):,.0f}",
                f"{statistics.median(m.mean_ms for m in measurements):,.2f}",
                f"{statistics.median(cpu):,.0f}" if cpu else "unknown",
            ]
        )
        rows.append([route, *figures])
    header = ("route", "transactions/s", "mean ms", "PostgreSQL CPU µs/transaction")
    return table(header, rows, labels=1) + "\n"


def document(environment: Mapping[str, str], ratios: str, comparison: str, bare_sql: str) -> str:
    """RESULTS.md."""
    lines = [f"- **{name}**: {value}" for name, value in environment.items()]
    return _DOCUMENT.format(
        environment="\n".join(lines), ratios=ratios, comparison=comparison, bare_sql=bare_sql
    )


_DOCUMENT = """\
# Results

Written by `make bench`; [README.md](README.md) says what is measured, and how.

{environment}

## Ratios

CPU time of a request: below 1, ours needs less. Requests/s: above 1, ours serves more.

{ratios}
## Figures

CPU time is user and system time of all processes of the server; PostgreSQL's is that of all of its
processes. Under closed loops latency follows from requests/s: `python -m benchmarks.paced` measures
what people would wait.

{comparison}
## Bare SQL

pgbench, one prepared statement a transaction, two clients.

{bare_sql}"""

_COLUMNS = (
    "route",
    "server",
    "CPU µs/request",
    "PostgreSQL's",
    "requests/s",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "peak PSS MiB",
)


def _figures(measurements: Sequence[Measurement]) -> list[str]:
    postgres_cpu = [m.postgres_cpu_us for m in measurements if m.postgres_cpu_us is not None]
    return [
        f"{_median(measurements, _cpu_us):,.0f}",
        f"{statistics.median(postgres_cpu):,.0f}" if postgres_cpu else "unknown",
        f"{_median(measurements, _rate):,.0f}",
        f"{_median(measurements, lambda m: m.p50_ms):,.1f}",
        f"{_median(measurements, lambda m: m.p95_ms):,.1f}",
        f"{_median(measurements, lambda m: m.p99_ms):,.1f}",
        f"{_median(measurements, lambda m: m.peak_pss_mib):,.0f}",
    ]


def _routes(results: Results, connections: int) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(point.route for point in results if point.connections == connections))


def _median(measurements: Sequence[Measurement], figure: Callable[[Measurement], float]) -> float:
    return statistics.median(map(figure, measurements))


def _cpu_us(measurement: Measurement) -> float:
    return measurement.cpu_us


def _rate(measurement: Measurement) -> float:
    return measurement.rate


def _p95_ms(measurement: Measurement) -> float:
    return measurement.p95_ms
