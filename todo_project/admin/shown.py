"""How admin shows what it knows: by a tick, by a time with its zone, by a link."""

from datetime import datetime

from django.db.models import Model
from django.templatetags.static import static
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString


def tick(is_so: bool) -> SafeString | None:
    """A tick, or nothing: Django's red cross says that something is wrong, where nothing is."""
    return (
        format_html('<img src="{}" alt="Yes">', static("admin/img/icon-yes.svg")) if is_so else None
    )


def time_of(moment: datetime | None) -> str | None:
    """As lists write it; on its page Django writes what no field is as Python does."""
    if moment is None:
        return None
    return formats.date_format(timezone.localtime(moment), "DATETIME_FORMAT")


def link_to(row: Model) -> SafeString:
    return format_html('<a href="{}">{}</a>', page_of("change", row), row)


def page_of(page: str, model: type[Model] | Model) -> str:
    """The address of a model's list, or of an object's page."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    return reverse(name, args=() if isinstance(model, type) else (model.pk,))
