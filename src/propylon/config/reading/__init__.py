"""Read the configuration from file, environment and command line, and report every problem with its place.

- `load`: read all of it, in order; `file`: read one file; `include`: merge the files that it names.
- `document`: read YAML with the line of every key; `expand`: replace `${VAR}` in values.
- `plain`: read routes that are written plainly without the YAML parser; `as_json`: read JSON without it.
- `lines`: know the line of each value; they are counted when a problem asks for them.
- `environment`: read variables; `named_services`: those that name services; `envfile`: those of `.env`; `stray_variables`: find those that set nothing;
  `otel`: those of OpenTelemetry;
  `typed_settings`: read those that a settings class has read;
  `keyfile`: read a public key from its file;
  `secretfile`: read secrets from theirs.
- `check`: find conflicts between the parts; `overlaps`: find routes that match the same requests;
  `credentials`: find weak and published secrets; `issuers`: find entries of auth.jwt that contradict each other;
  `stickies`: find what keeps `sticky` from working; `listeners`: find listeners that contradict each other; `logged`: find tokens that would be logged.
- `warnings`: find what is valid and probably not meant; `idle`: find what no request can reach;
  `shadows`: find services that the gateway's own endpoints hide parts of; `limits`: limits that a client can get past;
  `hashes`: hashes by which a client chooses the instance;
  `laxer`: routes that a client can choose in place of stricter ones;
  `itself`: services whose URL is the gateway's own address.
- `rules`: the rules by which it is doubted, with their ids.
- `model_keys`: which keys there are, and where.
- `messages`: put pydantic's errors into plain words; `problems`: a problem and its place.
"""
