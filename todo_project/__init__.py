"""The project: what is no app's. Whoever needs the number of the release imports it from here."""

# Of the service, by https://semver.org; CHANGELOG.md has a section of this number, and
# docs/clients.md says what clients may take from it.
VERSION = "1.0.0"
