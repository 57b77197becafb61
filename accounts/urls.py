"""Routes under /api/auth, with and without a trailing slash."""

from django.urls import re_path

from . import views

urlpatterns = [
    re_path(r"^register/?\Z", views.RegisterView.as_view(), name="auth-register"),
    re_path(r"^token/?\Z", views.TokenView.as_view(), name="auth-token"),
    re_path(r"^token/refresh/?\Z", views.RefreshView.as_view(), name="auth-token-refresh"),
    re_path(r"^logout/?\Z", views.LogoutView.as_view(), name="auth-logout"),
    re_path(r"^me/?\Z", views.MeView.as_view(), name="auth-me"),
    re_path(r"^password/?\Z", views.PasswordView.as_view(), name="auth-password"),
]
