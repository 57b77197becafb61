"""What `/metrics` tells, as numbers."""

from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

METRICS_TOKEN = "the-token-that-prometheus-has-0123456789"

# A name with its labels, sorted: `todo_refusals_total{cause="turn"}`.
Samples = Mapping[str, float]


def samples(text: str) -> Samples:
    return {
        _name(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _name(name: str, labels: Mapping[str, Any]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


def moved(before: Samples, after: Samples) -> Samples:
    """What is more than it was, but for what is looked up at each scrape."""
    looked_up = ("todo_cpu_", "todo_memory_", "todo_http_")
    differences = {name: value - before.get(name, 0) for name, value in after.items()}
    return {
        name: difference
        for name, difference in differences.items()
        if difference and not name.startswith(looked_up)
    }
