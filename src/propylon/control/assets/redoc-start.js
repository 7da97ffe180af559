// Show the API document with Redoc. The page says where the gateway is mounted.
"use strict";
const page = document.getElementById("page");
// `sanitize`: descriptions come from services, and may hold HTML.
Redoc.init(page.dataset.root + "/openapi.json", { sanitize: true, untrustedSpec: true }, page);
