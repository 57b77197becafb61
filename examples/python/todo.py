#!/usr/bin/env python3
"""Tasks on the command line, with and without a network. One file; Python 3.11 alone.

    todo.py sign-in https://todo.example.com alice@example.com
    todo.py add "Buy milk" --description "Two litres"
    todo.py list                        # each task with the end of its id
    todo.py done 3f9a2c                 # also: edit, rm, restore
    todo.py sync

Only `sign-in` and `sync` need the server. In between, everything happens in a file of this machine
(`--file`, or TODO_FILE), which holds

- a *copy* of the tasks, as the server last told them, and
- a *queue* of operations: what was done here, and the server doesn't know yet.

What `list` shows is the copy with the queue on top. `sync` sends the queue and then pulls what has
changed on the server. What makes that safe, whenever it breaks off:

- A task has its id from its maker: this program. To create it twice is impossible.
- An edit says which version of the task it was made to (`if_version`). Had somebody changed the
  task in between, the server refuses, and nobody's text is overwritten unseen.
- Whatever is sent has an Idempotency-Key, which stays in the queue until there is an answer. Is the
  answer lost, the same goes out again with the same key, and the server repeats its answer.
- The position up to which changes were pulled is stored together with them, or neither is.
"""

import argparse
import getpass
import http.client
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# What the server takes in one batch: operations, and bytes (with some room for what is around).
BATCH_OPERATIONS = 100
BATCH_BYTES = 1024 * 1024 - 1024
CHANGES_A_PAGE = 200
TIMEOUT_SECONDS = 30
# How often a server that is busy is asked again, and how long it may have us wait each time.
TRIES = 5
LONGEST_WAIT_SECONDS = 120
SHOWN_ID_CHARACTERS = 6

SCHEMA = """
    CREATE TABLE IF NOT EXISTS copy (
        id TEXT PRIMARY KEY,
        task TEXT NOT NULL,        -- JSON, as the server has it
        deleted INTEGER NOT NULL,  -- in the trash, or gone
        walk INTEGER NOT NULL      -- in which walk over everything it was seen last
    );
    CREATE TABLE IF NOT EXISTS queue (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        operation TEXT NOT NULL,   -- JSON, as the batch has it
        key TEXT                   -- the Idempotency-Key with which it was sent; no answer yet
    );
    CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, value TEXT);
"""


class CannotError(Exception):
    """Something that the person has to know; the program ends with it."""


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, error: Json) -> None:
        super().__init__(f"{error['message']} ({status} {error['code']})")
        self.status = status
        self.code: str = error["code"]
        self.details: Json = error["details"]


# --- What is kept here ------------------------------------------------------------------------


class Store:
    """The file: the copy, the queue, and notes such as the tokens and the position."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # it holds tokens
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block, or nothing of it; two programs on one file wait for each other."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def note(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        value: str | None = row[0] if row else None
        return value

    def keep(self, **notes: str | None) -> None:
        self._db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", notes.items())

    def copy(self) -> dict[str, Json]:
        """Tasks by id, as the server told them; `deleted` is ours."""
        rows = self._db.execute("SELECT id, task, deleted FROM copy")
        return {row_id: {**json.loads(task), "deleted": bool(gone)} for row_id, task, gone in rows}

    def tasks(self) -> dict[str, Json]:
        """Tasks by id, as the person sees them: the copy with the queue on top."""
        tasks = self.copy()
        for _, operation, _ in self.queue():
            task = tasks.setdefault(operation["id"], {"deleted": False, "is_completed": False})
            task.update(operation.get("data", {}), id=operation["id"], waits=True)
            if operation["op"] in ("delete", "restore"):
                task["deleted"] = operation["op"] == "delete"
        return tasks

    def save(self, task: Json) -> None:
        """What the server told of a task that lives."""
        row = (task["id"], json.dumps(task), False, self._walk)
        self._db.execute("INSERT OR REPLACE INTO copy VALUES (?, ?, ?, ?)", row)

    def mark_deleted(self, task_id: str) -> None:
        """What it was stays, so that it can be shown and restored."""
        self._db.execute("UPDATE copy SET deleted = 1 WHERE id = ?", (task_id,))

    def begin_walk(self) -> None:
        """Forgets the position: the next page is the first of everything that lives."""
        self.keep(since=None, walk=str(self._walk + 1))

    def end_walk(self) -> None:
        """At the end of all pages: what the walk didn't come by is gone."""
        self._db.execute("UPDATE copy SET deleted = 1 WHERE walk < ?", (self._walk,))

    @property
    def _walk(self) -> int:
        return int(self.note("walk") or 0)

    def queue(self) -> list[tuple[int, Json, str | None]]:
        rows = self._db.execute("SELECT number, operation, key FROM queue ORDER BY number")
        return [(number, json.loads(operation), key) for number, operation, key in rows]

    def add(self, operation: Json) -> None:
        """Puts an operation at the end of the queue.

        One with `if_version` gets the version that the person has seen. Is that not known because
        another operation on the task is still in the queue, next_batch() will know.
        """
        if "if_version" in operation:
            waits = any(waiting["id"] == operation["id"] for _, waiting, _ in self.queue())
            copied = self.copy().get(operation["id"])
            operation["if_version"] = None if waits or copied is None else copied["version"]
        self._db.execute("INSERT INTO queue (operation) VALUES (?)", (json.dumps(operation),))

    def next_batch(self, most: int) -> tuple[str, list[Json]] | None:
        """The key and the operations to send now: those that have no answer yet, or new ones.

        Of each task only the first, because the version that it makes is what the second needs.
        """
        with self.transaction():
            queue = self.queue()
            sent = [(key, operation) for _, operation, key in queue if key is not None]
            if sent:
                return sent[0][0], [operation for _, operation in sent]
            copy, key = self.copy(), str(uuid.uuid4())
            batch: list[Json] = []
            tasks_seen, size = set(), 0
            for number, operation, _ in queue:
                if operation["id"] in tasks_seen:
                    continue
                tasks_seen.add(operation["id"])
                if operation.get("if_version", 0) is None:
                    operation["if_version"] = copy[operation["id"]]["version"]
                size += len(as_bytes(operation)) + 1
                if batch and (len(batch) == most or size > BATCH_BYTES):
                    break
                batch.append(operation)
                change = "UPDATE queue SET operation = ?, key = ? WHERE number = ?"
                self._db.execute(change, (json.dumps(operation), key, number))
        return (key, batch) if batch else None

    def take_back(self, key: str) -> None:
        """The batch was refused as a whole: its operations can be sent with another key."""
        self._db.execute("UPDATE queue SET key = NULL WHERE key = ?", (key,))

    def settle(self, key: str, outcomes: list[Json]) -> list[str]:
        """Takes in the answer to a batch; returns what the person has to know."""
        with self.transaction():
            sent = [operation for _, operation, its_key in self.queue() if its_key == key]
            if not sent:  # another program on this file was quicker
                return []
            self._db.execute("DELETE FROM queue WHERE key = ?", (key,))
            told = [self._settle_one(*each) for each in zip(sent, outcomes, strict=True)]
        return [line for line in told if line is not None]

    def _settle_one(self, operation: Json, outcome: Json) -> str | None:
        task_id, op, status = operation["id"], operation["op"], outcome["status"]
        if status in (200, 201):
            self.save(outcome["data"])
            return None
        if status == 204 or (op == "delete" and status == 404):
            self.mark_deleted(task_id)
            return None

        # It wasn't done, so what was done to the task after it has no ground to stand on.
        seen, shown = self.copy().get(task_id, {}), self.tasks().get(task_id, {})
        data = operation.get("data", {})
        title = data.get("title", shown.get("title"))
        later = [(number, each) for number, each, _ in self.queue() if each["id"] == task_id]
        self._db.executemany("DELETE FROM queue WHERE number = ?", [(row[0],) for row in later])
        error = outcome["error"]
        if status == 404:
            self.mark_deleted(task_id)
            what = "deleted"
        elif status == 412:
            current = error["details"]["current"]
            self.save(current)
            what = f'changed, and is "{current["title"]}" now,'
            is_done = op != "delete" and all(current[name] == data[name] for name in data)
            # Somebody changed the task, but nothing that this edit is about.
            is_apart = op == "update" and all(current[name] == seen.get(name) for name in data)
            if is_done or (is_apart and seen.get("version") == operation["if_version"]):
                for each in [operation] * (not is_done) + [each for _, each in later]:
                    self.add(each)
                return None
        else:
            return f'The server refused to {op} "{title}": {reasons(error)}'

        if op != "update":
            return f'"{title}" was {what} elsewhere meanwhile: your "{op}" was left out.'
        # Nothing that somebody wrote is lost: their text stays, and ours becomes another task.
        mine = {"title": shown["title"], "description": shown.get("description")}
        for changed in (data, *(each.get("data", {}) for _, each in later)):
            mine.update({name: text for name, text in changed.items() if name in mine})
        self.add(creation(mine))
        return (
            f'"{title}" was {what} elsewhere meanwhile. What you wrote is a task of its own now, '
            f'"{mine["title"]}".'
        )


def creation(data: Json) -> Json:
    """An operation that makes a task. The id is chosen here, so that a repeat makes none twice."""
    return {"op": "create", "id": str(uuid.uuid4()), "data": data}


def reasons(error: Json) -> str:
    """What an error says to a person."""
    faults = [
        f"{name}: {fault['message']}"
        for name, faults in error["details"].items()
        if isinstance(faults, list)
        for fault in faults
    ]
    return " ".join(faults) or str(error["message"])


def as_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# --- What goes over the network ---------------------------------------------------------------


class Server:
    """The API at the address of the last sign-in, called with that session's tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sign_in(self, address: str, email: str, password: str) -> None:
        if not address.startswith(("https://", "http://")):
            raise CannotError("The address has to begin with https:// (or http://).")
        address = address.rstrip("/")
        body = {"email": email, "password": password}
        tokens = self._send("POST", f"{address}/api/auth/token", body)["data"]
        bearer = {"Authorization": f"Bearer {tokens['access']}"}
        me = self._send("GET", f"{address}/api/auth/me", headers=bearer)["data"]
        owner = self._store.note("owner")
        if owner not in (None, me["id"]):
            raise CannotError("This file has somebody else's tasks. Choose another with --file.")
        with self._store.transaction():
            self._store.keep(address=address, owner=me["id"])
            self._keep(tokens)

    def call(
        self, method: str, path: str, body: Json | None = None, key: str | None = None
    ) -> Json:
        """Calls a route; renews the tokens where they have expired."""
        address = self._store.note("address")
        if address is None:
            raise CannotError("Sign in first: todo.py sign-in ADDRESS EMAIL")
        headers = {} if key is None else {"Idempotency-Key": key}
        for has_new_tokens in (False, True):
            headers["Authorization"] = f"Bearer {self._store.note('access')}"
            try:
                return self._send(method, f"{address}{path}", body, headers)
            except RefusedError as refusal:
                if refusal.status != 401 or has_new_tokens:
                    raise
            self._refresh(address)
        raise AssertionError

    def _refresh(self, address: str) -> None:
        """A refresh token is good for one refresh. For a minute the server repeats its answer."""
        body = {"refresh": self._store.note("refresh")}
        try:
            tokens = self._send("POST", f"{address}/api/auth/token/refresh", body)["data"]
        except RefusedError as refusal:
            if refusal.status != 401:
                raise
            raise CannotError(
                "Your session has ended. Sign in again; your queue is kept."
            ) from None
        with self._store.transaction():
            self._keep(tokens)

    def _keep(self, tokens: Json) -> None:
        self._store.keep(access=tokens["access"], refresh=tokens["refresh"])

    def _send(
        self, method: str, url: str, body: Json | None = None, headers: Json | None = None
    ) -> Json:
        """One request. Is the server busy, it says for how long, and is asked again then."""
        data = None if body is None else as_bytes(body)
        headers = {"Content-Type": "application/json", **(headers or {})}
        for tries_left in reversed(range(TRIES)):
            request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                    content: Json = json.load(answer)
                    return content
            except urllib.error.HTTPError as answer:
                wait = int(answer.headers.get("Retry-After", LONGEST_WAIT_SECONDS))
                is_busy = answer.status in (429, 503)
                if is_busy and tries_left and wait <= LONGEST_WAIT_SECONDS:
                    time.sleep(wait)
                    continue
                try:
                    error = json.load(answer)["error"]
                except (ValueError, KeyError):
                    raise CannotError(
                        f"{url} answered {answer.status}, and not as the API."
                    ) from None
                raise RefusedError(answer.status or 0, error) from None
            except (OSError, http.client.HTTPException) as fault:
                raise CannotError(
                    f"The server can't be reached: {fault}. Nothing is lost."
                ) from None
            except ValueError:
                raise CannotError(f"{url} answered something else than JSON.") from None
        raise AssertionError


def push(store: Store, server: Server) -> None:
    """Sends the queue until it is empty, and prints what the person has to know."""
    most = BATCH_OPERATIONS
    while batch := store.next_batch(most):
        key, operations = batch
        # Not atomic: that one operation is refused is no reason to leave the others out.
        body = {"operations": operations, "atomic": False}
        try:
            outcomes = server.call("POST", "/api/me/batch", body, key)["data"]
        except RefusedError as refusal:
            faults = refusal.details.get("operations", [])
            is_too_much = refusal.status == 413 or "max_length" in [one["code"] for one in faults]
            if not is_too_much or len(operations) == 1:
                raise
            store.take_back(key)
            most = len(operations) // 2
            continue
        for line in store.settle(key, outcomes):
            print(line)


def pull(store: Store, server: Server) -> None:
    """Fetches what has changed since the last time, page by page."""
    has_more = True
    while has_more:
        since = store.note("since")
        query = {"limit": CHANGES_A_PAGE} | ({} if since is None else {"since": since})
        try:
            page = server.call("GET", f"/api/me/changes?{urllib.parse.urlencode(query)}")
        except RefusedError as refusal:
            # 410: this device was away for so long that the server forgot what it missed.
            # 400: the server has other secrets, or was restored.
            if since is None or not (refusal.status == 410 or "since" in refusal.details):
                raise
            with store.transaction():
                store.begin_walk()
            continue
        has_more = page["meta"]["has_more"]
        with store.transaction():
            for change in page["data"]:
                if change["type"] != "task":  # of a newer server
                    continue
                if change["deleted"]:
                    store.mark_deleted(change["id"])
                else:
                    store.save(change["resource"])
            store.keep(since=page["meta"]["next_since"])
            if not has_more:
                store.end_walk()


# --- What the person types --------------------------------------------------------------------


def find(store: Store, end_of_id: str, *, deleted: bool = False) -> str:
    """The id that is meant by its last characters."""
    found: list[str] = [
        task["id"]
        for task in store.tasks().values()
        if task["deleted"] == deleted and task["id"].endswith(end_of_id.lower())
    ]
    if len(found) != 1:
        kind = "deleted tasks" if deleted else "tasks"
        raise CannotError(f"{len(found)} {kind} have an id that ends in {end_of_id}.")
    return found[0]


def show(store: Store, *, everything: bool) -> None:
    for task in sorted(store.tasks().values(), key=lambda task: str(task.get("created_at", "~"))):
        mark = "-" if task["deleted"] else "x" if task["is_completed"] else " "
        if everything or mark == " ":
            waits = " *" if task.get("waits") else ""
            print(f"[{mark}] {task['id'][-SHOWN_ID_CHARACTERS:]} {task['title']}{waits}")
            if task.get("description"):
                print(
                    *(f"           {line}" for line in task["description"].splitlines()), sep="\n"
                )


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tasks, with and without a network.")
    default = os.environ.get("TODO_FILE") or Path.home() / ".todo.sqlite3"
    parser.add_argument("--file", type=Path, default=default, help=f"default: {default}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    command = commands.add_parser("sign-in", help="asks for your password; for `sync`")
    command.add_argument("address", help="of the server, such as https://todo.example.com")
    command.add_argument("email")
    command = commands.add_parser("list", help="open tasks; * waits for the next sync")
    command.add_argument("--all", action="store_true", help="[x] completed and [-] deleted, too")
    command = commands.add_parser("add", help="a new task")
    command.add_argument("title")
    command.add_argument("--description")
    command = commands.add_parser("edit", help="change the texts of a task")
    command.add_argument("id", help="its last characters, as `list` shows them")
    command.add_argument("--title")
    command.add_argument("--description")
    for name, text in (
        ("done", "complete a task"),
        ("rm", "delete a task, into the trash"),
        ("restore", "take a task out of the trash"),
    ):
        commands.add_parser(name, help=text).add_argument("id")
    commands.add_parser("sync", help="send what was done here, fetch what was done elsewhere")
    return parser


def operation_of(store: Store, arguments: argparse.Namespace) -> Json:
    """What a command does to a task, as the batch has it."""
    given = {name: getattr(arguments, name, None) for name in ("title", "description")}
    texts = {name: text for name, text in given.items() if text is not None}
    if "title" in texts:
        texts["title"] = texts["title"].strip()
        if not texts["title"]:
            raise CannotError("A task needs a title.")
    if arguments.command == "add":
        return creation(texts)
    task_id = find(store, arguments.id, deleted=arguments.command == "restore")
    match arguments.command:
        case "edit" if texts:
            return {"op": "update", "id": task_id, "if_version": None, "data": texts}
        case "edit":
            raise CannotError("Name a --title or a --description.")
        case "rm":
            return {"op": "delete", "id": task_id, "if_version": None}
        case "done":
            # Without a version: it overwrites no text, whatever else somebody did to the task.
            return {"op": "complete", "id": task_id, "data": {"is_completed": True}}
    return {"op": "restore", "id": task_id}


def run(store: Store, arguments: argparse.Namespace) -> None:
    server = Server(store)
    match arguments.command:
        case "sign-in":
            is_person = sys.stdin.isatty()
            password = getpass.getpass() if is_person else sys.stdin.readline().rstrip("\n")
            server.sign_in(arguments.address, arguments.email, password)
        case "sync":
            push(store, server)
            pull(store, server)
        case "list":
            show(store, everything=arguments.all)
        case _:
            operation = operation_of(store, arguments)
            store.add(operation)
            print(operation["id"][-SHOWN_ID_CHARACTERS:])


def main() -> None:
    arguments = command_line().parse_args()
    store = Store(arguments.file)
    try:
        run(store, arguments)
    except (CannotError, RefusedError) as fault:
        sys.exit(str(fault))
    finally:
        store.close()


if __name__ == "__main__":
    main()
