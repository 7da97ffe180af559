// Show the API document with Scalar. The page says where it is.
"use strict";
const { document: source } = document.getElementById("page").dataset;
// Nothing is loaded from elsewhere: no fonts, no proxy for requests, no telemetry, no assistant, no buttons that
// send the document to Scalar's own site, which it shows on localhost.
Scalar.createApiReference("#page", {
  url: source,
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  showDeveloperTools: "never",
  agent: { disabled: true },
  mcp: { disabled: true },
});
