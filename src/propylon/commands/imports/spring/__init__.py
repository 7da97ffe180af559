"""Read application.yml of Spring Cloud Gateway, versions 3 to 5, with WebFlux or MVC.

- `reader`: the file as a whole: documents, the gateway's section, services.
- `properties`: keys joined by dots, names in both spellings, placeholders, and `Name=args`.
- `predicates`: which requests a route takes; `paths`: their patterns.
- `filters`: the table of the filters; `headers`, `resilience`: what they become.
- `security`: tokens, and what only Java code says.
"""
