r"""HTTP/1.1 itself, without I/O; used by both edges and by the upstream side.

- `grammar`: each rule of the RFCs once, by its name. All other packages ask it.
- `message`: the nouns `Request` and `Response`, heads that were checked.
- `request`, `response`: bytes of a head → a checked noun. The only modules that know the parser.
- `buffer`: a stream of bytes → whole heads.
- `headers`: rules on raw header blocks: find, remove, render.
- `framing`: how long a body is, and the chunked coding.
- `target`: what a request target may be, and how a careless upstream would read it.

A *block* is a run of header lines, each with its CRLF **in front**: `\r\nName: value\r\nName: value`.
A request line or a status line, a block and `\r\n\r\n` make a head; blocks join by `+`.
"""
