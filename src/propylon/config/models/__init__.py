"""What may be written: pydantic models with defaults and descriptions. The reference is generated from them.

- `schema`: the whole file; `json_schema`: its description for editors.
- `server`, `auth`, `cors`, `services`, `resilience`, `routes`: its parts.
- `inherit`: what routes have from `defaults`.
- `endpoints`: the built-in endpoints: paths, methods, who may ask.
- `base`: what all models share; `syntax`, `origins`, `units`, `keys`: rules for the values in them.
- `spelling`: the known word nearest to a misspelt one.
"""
