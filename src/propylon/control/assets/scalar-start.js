// Show the API document with Scalar. The page says where the gateway is mounted.
"use strict";
const root = document.getElementById("page").dataset.root;
// Nothing is loaded from elsewhere: no fonts, no proxy for requests, no telemetry, no assistant.
Scalar.createApiReference("#page", {
  url: root + "/openapi.json",
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  agent: { disabled: true },
  mcp: { disabled: true },
});
