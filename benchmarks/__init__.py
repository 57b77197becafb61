"""Measures the service beside a peer, a floor and the bare SQL; README.md says how to run it.

Nothing that serves imports this, and it asks nothing of the service but its HTTP interface,
manage.py, the environment variables of the settings, and accounts.session_tokens for tokens.
"""
