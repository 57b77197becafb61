"""Mail that leaves after the answer. What the mails say stands in letters.py."""

from smtplib import SMTPNotSupportedError, SMTPRecipientsRefused, SMTPResponseException

from django.core.mail import send_mail

from todo_project import metrics
from todo_project.background import JobQueue


def _is_permanent(error: Exception) -> bool:
    """Whether the mail server would say the same again (RFC 5321, section 4.2.1)."""
    match error:
        case SMTPRecipientsRefused():
            return all(code >= 500 for code, _ in error.recipients.values())
        case SMTPResponseException():
            return error.smtp_code >= 500
        case _:
            return isinstance(error, SMTPNotSupportedError)


queue = JobQueue("mail", is_permanent=_is_permanent)


def send(subject: str, message: str, email: str) -> None:
    send_mail(subject, message, from_email=None, recipient_list=[email])
    metrics.MAILS_SENT.add()
