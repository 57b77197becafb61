"""The service's routes, and those of the resource that only the tests have."""

from tests.things.views import ThingViewSet
from todo_project import urls
from todo_project.resources.routes import owned_routes

urlpatterns = [*owned_routes("api", ThingViewSet), *urls.urlpatterns]
