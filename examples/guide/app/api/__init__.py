"""The guide's own endpoints, a module for each resource: `products`, `orders`, `overview`."""
