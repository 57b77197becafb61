"""What benchmarks/scaling.py calculates, and that the documents have it."""

import pytest

from benchmarks import scaling
from tests.processes import PROJECT

COSTS = scaling.Costs.measured((PROJECT / "benchmarks" / "RESULTS.md").read_text())
# A service that takes a millisecond, and a database that takes half of one.
EXAMPLE = scaling.Costs(service=0.001, postgres=0.0005)


@pytest.mark.parametrize(
    ("document", "name"),
    [pytest.param(*place, id=":".join(place)) for place in scaling.tables(COSTS)],
)
def test_document_has_the_table(document: str, name: str) -> None:
    """After another RESULTS.md: `python -m benchmarks.scaling --write`."""
    text = (PROJECT / "docs" / document).read_text()

    assert scaling.replaced(text, name, scaling.tables(COSTS)[document, name]) == text


def test_costs_are_those_of_the_results() -> None:
    """By the mix of the routes, in seconds."""
    lines = ["### 100 connections", "", "| route    | server | CPU µs/request | PostgreSQL's |"]
    for route, service, postgres in [
        *[("list", "1,000", "100"), ("read", "500", "50"), ("create", "2,000", "200")],
        *[("complete", "2,000", "200"), ("put", "9,999", "999"), ("patch", "2,000", "200")],
        ("delete", "2,000", "200"),
    ]:
        lines.append(f"| {route:8} | ours   | {service:>14} | {postgres:>12} | 1,408 |")
        lines.append(f"| {route:8} | peer   | {'7,777':>14} | {'777':>12} | 406 |")
    lines += ["", "### 1,000 connections", "", "| list | ours | 1 | 1 |", ""]

    costs = scaling.Costs.measured("\n".join(lines))

    assert costs.service == pytest.approx(0.001)
    assert costs.postgres == pytest.approx(0.0001)


def test_results_of_another_form_are_refused() -> None:
    with pytest.raises(ValueError, match="no table"):
        scaling.Costs.measured("# Results\n")


def test_people_of_an_example() -> None:
    """A million people, 100 requests a day each, a tenth of them in an hour: 2,778 a second."""
    row = scaling.people_table(EXAMPLE).splitlines()[5]
    people, rate, cores, processes, connections, postgres, tasks, *_ = (
        cell.strip() for cell in row.strip("|").split("|")
    )

    assert (people, rate, tasks) == ("1,000,000", "2,778", "200,000,000")
    assert (cores, processes, connections, postgres) == ("5.6", "6", "30", "2.8")


def test_sizes_of_an_example() -> None:
    """Half of a core at 0.5 ms a request is 1,000 a second, which take two busy cores to serve."""
    row = scaling.sizes_table(EXAMPLE).splitlines()[4]

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("1 CU", "419, 377", "1,000", "2 × 4", "10")
    ]
