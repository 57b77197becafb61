"""What Django's password validators leave out."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.module_loading import import_string

from .credentials import normalize_password


class NormalizedValidator:
    """The validator of the name `validator`, asked of a password as it will be hashed."""

    def __init__(self, validator: str, **options: Any) -> None:
        self._validator = import_string(validator)(**options)

    def validate(self, password: str, user: object = None) -> None:
        self._validator.validate(normalize_password(password), user)

    def get_help_text(self) -> str:
        text: str = self._validator.get_help_text()
        return text


class MaximumLengthValidator:
    """Refuses passwords of more than `max_length` characters, wherever they are set."""

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    def validate(self, password: str, user: object = None) -> None:
        if len(password) > self.max_length:
            raise ValidationError(self.get_help_text(), code="password_too_long")

    def get_help_text(self) -> str:
        return f"The password must have at most {self.max_length} characters."


class NotBlankValidator:
    """Refuses passwords of nothing but white space, which look like none."""

    def validate(self, password: str, user: object = None) -> None:
        if password.isspace():
            raise ValidationError(self.get_help_text(), code="password_blank")

    def get_help_text(self) -> str:
        return "The password can’t be white space alone."
