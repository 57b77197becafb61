"""What Django's password validators leave out."""

from django.core.exceptions import ValidationError


class MaximumLengthValidator:
    """Refuses passwords of more than `max_length` characters, wherever they are set."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    def validate(self, password: str, user: object = None) -> None:
        if len(password) > self.max_length:
            raise ValidationError(self.get_help_text(), code="password_too_long")

    def get_help_text(self) -> str:
        return f"The password must have at most {self.max_length} characters."
