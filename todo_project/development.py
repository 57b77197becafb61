"""Where the development server of this checkout listens, for commands in other terminals.

Written by `manage.py runserver`, and kept when it ends: it will most likely listen there again.
"""

from pathlib import Path

_NOTE = Path(__file__).resolve().parent.parent / ".runserver"


def note_server(url: str) -> None:
    _NOTE.write_text(f"{url}\n", encoding="utf-8")


def server(default_port: int) -> str:
    """Its address, such as `http://127.0.0.1:8001`."""
    try:
        return _NOTE.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return f"http://127.0.0.1:{default_port}"
