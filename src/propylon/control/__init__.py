"""The control plane: the gateway's own endpoints, on FastAPI, never in the hot path.

- `app`: build the FastAPI app, which routes reach in process; `errors`: answer its errors in the gateway's envelope;
  `mounted`: tell it where the gateway is mounted; `traced`: tell a team's code which trace it runs for.
- `health`: `/health`, `/livez`, `/readyz`; `metrics`: `/metrics`; `schemas`: their request and response models.
- `tokens`: `/auth/token`, `/auth/revoke`, `/auth/introspect`; `sessions`: logins and refreshes; `issuer`: sign access
  tokens; `revoke`, `introspect`: the work of those two endpoints.
- `users`: `/users/me` and sessions; `user_records`: list, add, change and remove users; `user_schemas`: their models;
  `etags`: ask only for what has changed, change only what was seen; `pages`: lead from one page of a list to the next; `token_schemas`: the models of the token and user endpoints; `ports`: the storage they need.
- `registry`: `/services`, register and change; `instances`: list them; `registration`: their models; `circuits`: `/circuits`; `limits`: `/rate-limits`;
  `cache`: `/cache`.
- `api_docs`: `/openapi.json` and the pages that show it; `documents`: `/documents`, the documents of services; `form_schema`: how forms are described.
- `dashboard`: the page that shows what the gateway does; `live`: what it shows, `/gateway`; `operations`: what operators do
  there: breakers, instances; `static`: the files that pages load; `same_site`: refuse what other sites' pages send.
- `admin`: who may use the endpoints that want admin; `audit`: report what an endpoint does to the audit log.
- `identity`: FastAPI dependencies that give an endpoint its caller; `custom_endpoints`: find a team's own endpoints;
  `service`: call a service from an endpoint; `call_target`: the path of such a call; `called`: its answer; `parts`: gather several.
  `policies`: run a team's policies; `costs`: ask a team's functions what requests and answers cost.
"""
