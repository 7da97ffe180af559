"""Compress answers for clients, and unpack requests for services (RFC 9110, 8.4).

- `accepted`: which coding does a client want; `codecs`: the libraries that make and read the codings.
- `compress`: the forward stage of a route with `compress`; `fields`: what changes in the head of a compressed answer, entity tags
  included; `stream`: an answer that is compressed while it comes.
- `decompress`: the forward stage of a route with `decompress`; `unpack`: a body that is unpacked while it comes; `decoders`: the
  libraries, a bounded piece at a time.
"""
