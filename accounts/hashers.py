"""How passwords are kept."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class OWASPArgon2Hasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane.

    Source: https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
    """

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1
