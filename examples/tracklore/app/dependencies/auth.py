"""Give endpoints on `gateway.api` their caller.

The gateway verifies the token before it calls an endpoint, as for every route in `propylon.yaml`. An endpoint that depends on
these gets 401 or 403 for its callers without more code. A test replaces `current_user` in FastAPI's `dependency_overrides`.
"""

from typing import Annotated

from propylon import Principal, current_principal, require_roles, require_scopes

__all__ = ["CurrentUser", "current_user", "require_roles", "require_scopes"]

current_user = current_principal
CurrentUser = Annotated[Principal, current_user]
