"""Routes under /api/auth, with and without a trailing slash. In the order of use."""

from django.urls import re_path

from . import views

urlpatterns = [
    re_path(r"^register/?\Z", views.RegisterView.as_view(), name="auth-register"),
    re_path(r"^token/?\Z", views.TokenView.as_view(), name="auth-token"),
    re_path(r"^token/refresh/?\Z", views.RefreshView.as_view(), name="auth-token-refresh"),
    re_path(r"^logout/?\Z", views.LogoutView.as_view(), name="auth-logout"),
    re_path(r"^password/reset/?\Z", views.PasswordResetView.as_view(), name="auth-password-reset"),
    re_path(
        r"^password/reset/confirm/?\Z",
        views.PasswordResetConfirmView.as_view(),
        name="auth-password-reset-confirm",
    ),
    re_path(r"^me/?\Z", views.MeView.as_view(), name="auth-me"),
    re_path(r"^me/delete/?\Z", views.MeDeletionView.as_view(), name="auth-me-delete"),
    re_path(r"^password/?\Z", views.PasswordView.as_view(), name="auth-password"),
    re_path(r"^sessions/?\Z", views.SessionListView.as_view(), name="auth-sessions"),
    re_path(
        r"^sessions/(?P<session_id>[^/]+)/?\Z", views.SessionView.as_view(), name="auth-session"
    ),
    re_path(r"^logout-all/?\Z", views.LogoutAllView.as_view(), name="auth-logout-all"),
]
