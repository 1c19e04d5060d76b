"""Before the routes: connections, middleware, authentication, rate limits."""
