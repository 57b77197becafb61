"""Gives the people of an identity provider that moved their accounts again."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, connections, transaction

from accounts.models import ISSUER_MAX_CHARACTERS, Identity, User
from todo_project.clock import lock_clocks

SHOWN_MAX = 20


class Command(BaseCommand):
    """Renames the issuer of identities, in one transaction.

    Whoever signed in under both names has an account under each. Where one is empty it goes;
    otherwise nothing is renamed for them, and the command names their subjects: only a person can
    tell which of two is to be kept.
    """

    help = "Rename an issuer: after a provider moved to another domain, or a Neon branch."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("old", help="`iss` of the tokens until now, to the letter.")
        parser.add_argument("new", help="`iss` of the tokens from now on, to the letter.")

    def handle(self, *args: Any, **options: Any) -> None:
        old, new = options["old"], options["new"]
        if old == new or not 1 <= len(new) <= ISSUER_MAX_CHARACTERS:
            raise CommandError(
                f"NEW must be another name, of 1 to {ISSUER_MAX_CHARACTERS} characters."
            )
        with transaction.atomic(using="direct"):
            with connections["direct"].cursor() as cursor:
                cursor.execute("SET LOCAL statement_timeout = 0")  # the role's is for requests
            identities = Identity.objects.using("direct")
            if not identities.filter(issuer=old).exists():
                raise CommandError(f"Nobody came from {old!r}. It has to be given to the letter.")
            kept = self._absorb(old, new)
            try:
                renamed = identities.filter(issuer=old).exclude(pk__in=kept).update(issuer=new)
            except IntegrityError:
                raise CommandError(
                    "Nothing was renamed: somebody signed in meanwhile. Run it again."
                ) from None
        self.stdout.write(f"{renamed} renamed")
        if kept:
            subjects = identities.filter(pk__in=kept).values_list("subject", flat=True)
            self.stdout.write(
                f"{len(kept)} not renamed, who have an account with things in it under each name: "
                f"{', '.join(subjects[:SHOWN_MAX])}{' ...' if len(kept) > SHOWN_MAX else ''}"
            )

    def _absorb(self, old: str, new: str) -> list[Any]:
        """Deletes, of two accounts of one subject, an empty one; gives those that are left as is.

        That of the new name first, made by the first request after the move; or that of the old
        one, made by a process that still served.
        """
        identities = Identity.objects.using("direct")
        in_the_way = identities.filter(
            issuer=new, subject__in=identities.filter(issuer=old).values("subject")
        )
        moved = identities.filter(issuer__in=(old, new), subject__in=in_the_way.values("subject"))
        lock_clocks(moved.values_list("user_id", flat=True), using="direct")
        kept = []
        for newer in in_the_way.order_by("id"):
            older = identities.get(issuer=old, subject=newer.subject)
            users = User.objects.db_manager("direct").select_for_update().order_by("id")
            owners = {user.pk: user for user in users.filter(pk__in=[older.user_id, newer.user_id])}
            if older.user_id == newer.user_id:
                older.delete()  # known by both names already
            elif owners[newer.user_id].has_nothing_but(newer):
                owners[newer.user_id].delete()
            elif owners[older.user_id].has_nothing_but(older):
                owners[older.user_id].delete()
            else:
                kept.append(older.pk)
        return kept
