"""CHECK: does a request, or an answer, fit what its service's OpenAPI document says of the operation? Pure.

    document ──► Contract ──► operation(path, method) ──► head(path, query, headers) and body(type, bytes): what does not fit

- `contract`: compile the operations of a document.
- `operation`: the check of one operation; `texts`: what the text of a parameter may mean.
- `json_body`: read a body that must be JSON.
- `answer`: the check of an operation's answers.
"""

__all__ = ["ANSWER_RESULTS", "DRIFT", "FITS", "NO_DOCUMENT", "RESULTS", "UNCHECKED", "UNDOCUMENTED"]

# What becomes of a request, in the order of a row of the metric.
RESULTS = ("passed", "refused", "shadow", "unchecked", "undocumented", "no_document")
# The same of a sample of an answer.
ANSWER_RESULTS = ("fits", "drift", "unchecked", "undocumented", "no_document")
FITS, DRIFT, UNCHECKED, UNDOCUMENTED, NO_DOCUMENT = range(len(ANSWER_RESULTS))
