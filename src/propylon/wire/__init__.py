r"""Read and write HTTP/1.1 (RFC 9112) without I/O: bytes in, checked values out, for both edges and for `upstream`.

- `grammar`: each rule of the RFCs once, by its name. All other packages ask it.
- `message`: the values `Request` and `Response`, heads that were checked.
- `request`, `response`: from the bytes of a head to one of these. With `probe`, the only modules that know the parser.
- `native`: the compiled part (`_heads.c`), which reads nearly all heads before the parser is asked, where there is one.
- `probe`: judge a request head of which only the beginning has arrived.
- `glimpse`: what the answer to a head needs that was refused as a whole.
- `buffer`: from a stream of bytes to whole heads.
- `headers`: find, remove and render lines of a header block.
- `cookies`: take single cookies out of a block.
- `lookalikes`: names that a reader could take for those of framing and identity headers.
- `framing`: how long a body is, and the chunked coding.
- `chunk_line`: the size line of a chunk, where it arrives in pieces.
- `proxy_header`: the PROXY protocol header that begins a connection to an upstream.
- `target`: what a host may be.
- `forwarded`: the lines that tell an upstream of the client, X-Forwarded-* and Forwarded.
- `spellings`: how the common servers merge spellings of a path, and how they would read one.
- `proxy_protocol`: the header that a load balancer sends in front of everything else.
- `offer`: the offer of another protocol, and the 101 that agrees to it; `handshake`: read the offer from a request.
- `frames`: where a WebSocket's frames end; close frames and pings.
- `trailers`: which fields may stand behind a body.

A *block* is a run of header lines, each with its CRLF **in front**: `\r\nName: value\r\nName: value`.
A request line or a status line, a block and `\r\n\r\n` make a head; blocks join by `+`.
"""
