"""Mail that leaves after the answer: from a bounded queue, by one thread of the process.

There is no table to poll, so that the database can sleep. What is lost with the process is asked
for again by whoever misses it.
"""

import atexit
import logging
import threading
import time
from collections.abc import Callable
from queue import Full, Queue
from urllib.parse import quote

from django.conf import settings
from django.core.mail import send_mail
from django.db import DatabaseError, InterfaceError, connections

from .models import User
from .tokens import make_reset_token

logger = logging.getLogger(__name__)

QUEUE_LENGTH = 1000  # mails; one more is dropped, and the log says so
# Before each try. The first lets the answer leave: work for a known address that ran beside it
# would slow it down, and tell.
PAUSES_SECONDS = (0.1, 1.0, 10.0)
STOP_SECONDS = 5.0  # how long the end of the process waits for mails that are under way


class MailQueue:
    """Runs jobs one after another in a thread, which starts with the first of them.

    Not at import: a server forks or spawns its workers, and threads stay behind.
    """

    def __init__(self, length: int = QUEUE_LENGTH) -> None:
        self._jobs: Queue[Callable[[], None]] = Queue(length)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, job: Callable[[], None]) -> None:
        """Takes a job and returns at once; drops it where the queue is full."""
        try:
            self._jobs.put_nowait(job)
        except Full:
            logger.error("mail dropped: the queue is full")  # noqa: TRY400  # no defect to trace
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="mail", daemon=True)
                self._thread.start()
                atexit.register(self.wait, STOP_SECONDS)

    def wait(self, timeout_seconds: float) -> bool:
        """Waits until every job has ended; False where that took too long."""
        deadline = time.monotonic() + timeout_seconds
        while self._jobs.unfinished_tasks:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._try(job)
            finally:
                connections.close_all()  # the thread may now idle for days
                self._jobs.task_done()

    @staticmethod
    def _try(job: Callable[[], None]) -> None:
        for pause_seconds in PAUSES_SECONDS:
            time.sleep(pause_seconds)
            try:
                job()
            except (OSError, DatabaseError, InterfaceError) as error:
                # Its text may hold the address that the mail was for.
                logger.warning("mail not sent yet: %s", type(error).__name__)
            except ValueError as error:  # an address or header that no mail can have
                logger.error("mail given up: %s", type(error).__name__)  # noqa: TRY400
                return
            else:
                return
        logger.error("mail given up after %d tries", len(PAUSES_SECONDS))


queue = MailQueue()


def send_password_reset(email: str) -> None:
    """Mails a link to whoever has the address `email`, if anybody does.

    Whether somebody does is looked up in the thread too: the caller can't tell by the time.
    """
    queue.put(lambda: _send_password_reset(email))


def _send_password_reset(email: str) -> None:
    if not settings.PASSWORD_RESET_URL:
        logger.error("no mail: PASSWORD_RESET_URL is not set")
        return
    user = User.objects.with_email(email).filter(is_active=True).first()
    if user is None:
        return
    link = settings.PASSWORD_RESET_URL.replace("{token}", quote(make_reset_token(user), safe=""))
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    send_mail(
        subject="Choose a new password",
        message=(
            f"Somebody, most likely you, asked for a new password.\n\n"
            f"Choose it here within {minutes} minutes:\n{link}\n\n"
            f"If it wasn't you, do nothing: the old password stays good.\n"
        ),
        from_email=None,
        recipient_list=[user.email],
    )
