"""The wing that answers: endpoints, routes, serving and batch scoring."""
