"""Request handling before the routes: connections, middleware, authentication, rate limits."""
