"""The ingress: routes and HTTP, pure, and the listeners, TLS and upstream pool around them."""
