"""Routes under /api/auth, with and without a trailing slash. In the order of use."""

from django.urls import re_path

from .views import email, passwords, profile, registration, sessions

urlpatterns = [
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
    re_path(r"^me/delete/?\Z", profile.MeDeletionView.as_view(), name="auth-me-delete"),
    re_path(r"^password/?\Z", passwords.PasswordView.as_view(), name="auth-password"),
    re_path(r"^email/?\Z", email.EmailView.as_view(), name="auth-email"),
    re_path(r"^sessions/?\Z", sessions.SessionListView.as_view(), name="auth-sessions"),
    re_path(
        r"^sessions/(?P<session_id>[^/]+)/?\Z", sessions.SessionView.as_view(), name="auth-session"
    ),
    re_path(r"^logout-all/?\Z", sessions.LogoutAllView.as_view(), name="auth-logout-all"),
]
