// Show the API document with Swagger UI. The page says where it is.
"use strict";
const { root, document: source } = document.getElementById("page").dataset;
let token = "";
const ui = SwaggerUIBundle({
  dom_id: "#page",
  url: source,
  oauth2RedirectUrl: window.location.origin + root + "/docs/oauth2-redirect",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
  displayRequestDuration: true,
  // A document that is filtered by caller is read again with the token, once there is one.
  requestInterceptor: (request) => {
    if (token && request.url === source) {
      request.headers.Authorization = "Bearer " + token;
    }
    return request;
  },
  plugins: [
    {
      statePlugins: {
        auth: {
          wrapActions: {
            authorize: (original) => (payload) => {
              const done = original(payload);
              for (const name of Object.keys(payload)) remember(payload[name]);
              return done;
            },
            authorizeOauth2: (original) => (payload) => {
              const done = original(payload);
              if (payload.token) take(payload.token.access_token);
              return done;
            },
          },
        },
      },
    },
  ],
});
// RFC 9700, 2.1.1: a public client, which a page is, sends a code challenge (PKCE). Swagger UI does so only if told to.
ui.initOAuth({ usePkceWithAuthorizationCodeGrant: true });
function remember(scheme) {
  if (scheme && typeof scheme.value === "string") take(scheme.value);
}
function take(found) {
  if (found && found !== token) {
    token = found;
    ui.specActions.download(source);
  }
}
