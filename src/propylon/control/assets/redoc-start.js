// Show the API document with Redoc. The page says where it is.
"use strict";
const page = document.getElementById("page");
// `sanitize`: descriptions come from services, and may hold HTML.
Redoc.init(page.dataset.document, { sanitize: true, untrustedSpec: true }, page);
