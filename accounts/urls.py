"""Routes under /api/auth, with and without a trailing slash. In the order of use."""

from django.conf import settings
from django.urls import re_path

from .views import (
    email,
    exports,
    identities,
    passwords,
    personal_tokens,
    profile,
    registration,
    sessions,
)

# For people who sign in here.
_LOCAL = {
    "auth-register",
    "auth-token",
    "auth-token-refresh",
    "auth-logout",
    "auth-password-reset",
    "auth-password-reset-confirm",
    "auth-password",
    "auth-email",
    "auth-email-confirm",
    "auth-sessions",
    "auth-session",
}

_ROUTES = [
    re_path(r"^register/?\Z", registration.RegisterView.as_view(), name="auth-register"),
    re_path(r"^token/?\Z", sessions.TokenView.as_view(), name="auth-token"),
    re_path(r"^token/refresh/?\Z", sessions.RefreshView.as_view(), name="auth-token-refresh"),
    re_path(r"^logout/?\Z", sessions.LogoutView.as_view(), name="auth-logout"),
    re_path(
        r"^password/reset/?\Z", passwords.PasswordResetView.as_view(), name="auth-password-reset"
    ),
    re_path(
        r"^password/reset/confirm/?\Z",
        passwords.PasswordResetConfirmView.as_view(),
        name="auth-password-reset-confirm",
    ),
    re_path(r"^email/confirm/?\Z", email.EmailConfirmView.as_view(), name="auth-email-confirm"),
    re_path(r"^me/?\Z", profile.MeView.as_view(), name="auth-me"),
    re_path(r"^me/export/?\Z", exports.ExportView.as_view(), name="auth-me-export"),
    re_path(r"^me/delete/?\Z", profile.MeDeletionView.as_view(), name="auth-me-delete"),
    re_path(r"^password/?\Z", passwords.PasswordView.as_view(), name="auth-password"),
    re_path(r"^email/?\Z", email.EmailView.as_view(), name="auth-email"),
    re_path(r"^sessions/?\Z", sessions.SessionListView.as_view(), name="auth-sessions"),
    re_path(
        r"^sessions/(?P<session_id>[^/]+)/?\Z", sessions.SessionView.as_view(), name="auth-session"
    ),
    re_path(r"^tokens/?\Z", personal_tokens.PersonalTokenListView.as_view(), name="auth-tokens"),
    re_path(
        r"^tokens/(?P<token_id>[^/]+)/?\Z",
        personal_tokens.PersonalTokenView.as_view(),
        name="auth-token-end",
    ),
    re_path(r"^identities/?\Z", identities.IdentityListView.as_view(), name="auth-identities"),
    re_path(
        r"^identities/(?P<identity_id>[^/]+)/?\Z",
        identities.IdentityView.as_view(),
        name="auth-identity",
    ),
    re_path(r"^logout-all/?\Z", sessions.LogoutAllView.as_view(), name="auth-logout-all"),
]

urlpatterns = [route for route in _ROUTES if settings.LOCAL_ACCOUNTS or route.name not in _LOCAL]
