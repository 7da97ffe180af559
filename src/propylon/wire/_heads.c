/* Read the heads of nearly all requests and answers: a quick way beside llhttp and the patterns of `wire`.
 *
 * Rules.
 *
 * 1. These functions only ACCEPT. `None` says nothing about a head: llhttp and the patterns judge it, as they do where this
 *    file was not compiled. So every refusal, every rare form and every rule of Propylon's own stands in Python, once.
 * 2. What is accepted here, Python accepts with an equal result; `tests/wire/test_native.py` and `tests/fuzz/heads.py` hold
 *    the two beside each other. What is in doubt is declined.
 * 3. `scan_...` judges and makes no object; `make_...` makes objects of what was judged, and fails only for want of memory.
 * 4. No byte is read before its place was compared with `end`. Whatever is counted has a bound (`MAX_...`).
 *
 * The limited API of Python 3.11: one build for all versions from there on.
 */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MAX_HEAD (1 << 20) /* bytes; the edge (`server.max_header`) and the side of the upstreams allow less */
#define MAX_LINES 250      /* fields; for a head with more, see `MAX_FIELDS` of `wire.headers` */
#define MAX_FOUND 48       /* fields with a meaning for the gateway; a browser's request has six */
#define MAX_KEY 28         /* one byte more than the longest key below has */
#define MAX_DIGITS 18      /* of Content-Length: `CONTENT_LENGTH` of `wire.grammar` */

#define INTERFACE 1        /* of what is returned; `wire.native` takes no other one, as of an older build */

typedef unsigned char byte;

/* ---------------------------------------------------------------------------------- what the names mean */

enum {
    DROPPED = 1, /* the line does not stay in the block */
    LENGTH = 2,  /* Content-Length */
    CODING = 4,  /* Transfer-Encoding */
    DECLINED = 8 /* an offer of another protocol: Python reads it */
};

typedef struct {
    const char *key;  /* what a name is looked up by: its letters (requests), or all of it (answers); in lower case */
    const char *name; /* how it has to be spelled, in lower case; NULL: as the key */
    int kind;
} Field;

/* `_SPECIAL` of `wire.request` without its families, by the length of the keys. A name that has the same letters and another
 * spelling may be a lookalike (`wire.lookalikes`), and is declined. */
static const Field REQUEST[] = {
    {"te", NULL, DROPPED},
    {"dnt", NULL, DROPPED},
    {"host", NULL, DROPPED},
    {"expect", NULL, DROPPED},
    {"origin", NULL, 0},
    {"secgpc", "sec-gpc", DROPPED},
    {"trailer", NULL, DROPPED},
    {"upgrade", NULL, DECLINED},
    {"xrealip", "x-real-ip", DROPPED},
    {"forwarded", NULL, DROPPED},
    {"keepalive", "keep-alive", DROPPED},
    {"connection", NULL, DROPPED},
    {"tracestate", NULL, DROPPED},
    {"xrequestid", "x-request-id", DROPPED},
    {"maxforwards", "max-forwards", DROPPED},
    {"traceparent", NULL, DROPPED},
    {"xrewriteurl", "x-rewrite-url", DROPPED},
    {"xoriginalurl", "x-original-url", DROPPED},
    {"authorization", NULL, 0},
    {"contentlength", "content-length", DROPPED | LENGTH},
    {"xprivacylevel", "x-privacy-level", DROPPED},
    {"transferencoding", "transfer-encoding", DROPPED | CODING},
    {"xpropylonexplain", "x-propylon-explain", DROPPED},
    {"xhttpmethodoverride", "x-http-method-override", DROPPED},
    {"accesscontrolrequestmethod", "access-control-request-method", 0},
    {"accesscontrolrequestheaders", "access-control-request-headers", 0},
};

/* The families of `_SPECIAL`: their letters, how their names have to begin, and the one name without an ending. */
static const struct {
    const char *letters, *prefix, *alone;
} FAMILIES[] = {
    {"proxy", "proxy-", "proxy"},
    {"xuser", "x-user-", NULL},
    {"xforwarded", "x-forwarded-", "x-forwarded"},
    {"xclientcert", "x-client-cert-", NULL},
};

/* `_SPECIAL` of `wire.response`, which knows no lookalikes. */
static const Field RESPONSE[] = {
    {"te", NULL, DROPPED},
    {"link", NULL, 0},
    {"trailer", NULL, DROPPED},
    {"upgrade", NULL, DECLINED},
    {"refresh", NULL, 0},
    {"location", NULL, 0},
    {"connection", NULL, DROPPED},
    {"keep-alive", NULL, DROPPED},
    {"set-cookie", NULL, 0},
    {"x-request-id", NULL, DROPPED},
    {"content-length", NULL, LENGTH},
    {"x-error-source", NULL, DROPPED},
    {"content-location", NULL, 0},
    {"proxy-connection", NULL, DROPPED},
    {"transfer-encoding", NULL, DROPPED | CODING},
    {"proxy-authenticate", NULL, DROPPED},
    {"proxy-authentication-info", NULL, DROPPED},
};

#define COUNT(table) (sizeof(table) / sizeof(*(table)))
#define MAX_FIELDS COUNT(REQUEST)
_Static_assert(COUNT(RESPONSE) <= MAX_FIELDS, "the answers' table is the larger one");

/* A table, and where in it the keys of each length begin. */
typedef struct {
    const Field *fields;
    byte first[MAX_KEY + 2];
    bool by_letters;
} Names;

static Names REQUEST_NAMES = {.fields = REQUEST, .by_letters = true};
static Names RESPONSE_NAMES = {.fields = RESPONSE, .by_letters = false};

/* The methods that `_COMMON` of `wire.request` has: RFC 9110, 9.3, and RFC 5789. */
static const char *const METHODS[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

/* ------------------------------------------------------------------------------------ classes of bytes */

enum { PATH = 1, QUERY = 2, LETTER = 4 };

static byte LOWER[256]; /* a byte of a token (RFC 9110, 5.6.2) in lower case; 0 for all others */
static byte CLASS[256];

static void
fill_classes(void)
{
    for (const char *token = "!#$%&'*+.^_`|~0123456789abcdefghijklmnopqrstuvwxyz-"; *token; token++) {
        byte b = (byte)*token;
        LOWER[b] = b;
        if (b >= 'a' && b <= 'z') {
            LOWER[b - 'a' + 'A'] = b;
            CLASS[b] |= LETTER;
        }
    }
    for (int b = 0x21; b <= 0x7e; b++) { /* ORIGIN_FORM of `wire.grammar` (RFC 9112, 3.2.1) */
        CLASS[b] |= (b == '#' ? 0 : QUERY) | (b == '#' || b == '?' ? 0 : PATH);
    }
}

static void
fill_names(Names *names, size_t count)
{
    size_t at = 0;
    for (size_t length = 0; length <= MAX_KEY; length++) {
        while (at < count && strlen(names->fields[at].key) < length) {
            at++;
        }
        names->first[length] = (byte)at;
    }
    names->first[MAX_KEY + 1] = (byte)count;
}

/* ------------------------------------------------------------------------------------------------ scan */

typedef struct {
    const byte *at, *end;
} Span;

typedef struct {
    Span line; /* with the CRLF in front, as in a block */
    Span name, value;
    const Field *field; /* NULL: of a family */
} Found;

typedef struct {
    Span block;
    Found found[MAX_FOUND];
    int count, lengths, codings;
} Lines;

static bool
is_text(Span span, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(span.end - span.at) == length && memcmp(span.at, text, length) == 0;
}

/* Whether the span begins with (or, `whole`, is) this text, which is in lower case, in any case of its own. */
static bool
is_spelled(Span span, const char *text, bool whole)
{
    size_t length = strlen(text), own = (size_t)(span.end - span.at);
    if (own < length || (whole && own != length)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (LOWER[span.at[i]] != (byte)text[i]) {
            return false;
        }
    }
    return true;
}

/* RFC 9110, 5.1: the name is a token, and the colon follows at once (RFC 9112, 5.1). Return where it ends, NULL if it is
 * none; set its key, of which the first bytes are kept, and the key's whole length. */
static const byte *
scan_name(Span rest, bool by_letters, byte key[MAX_KEY], size_t *length)
{
    const byte *at = rest.at;
    size_t count = 0;
    for (; at < rest.end && LOWER[*at]; at++) {
        byte lower = LOWER[*at];
        if (by_letters && !(CLASS[lower] & LETTER)) {
            continue;
        }
        if (count < MAX_KEY) {
            key[count] = lower;
        }
        count++;
    }
    *length = count;
    return at > rest.at && at < rest.end && *at == ':' ? at : NULL;
}

/* Whether eight bytes are all of a field value: no control byte, no DEL. It may say no where a tab is, or 0x80 and above. */
static bool
are_plain(const byte *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), high = ones * 0x80;
    uint64_t eight, del;
    memcpy(&eight, at, sizeof eight);
    del = eight ^ (ones * 0x7f);
    return (((eight - ones * 0x20) | (del - ones) | eight) & high) == 0;
}

/* RFC 9110, 5.5: visible bytes, blanks and obs-text up to the CRLF. Return where it ends; NULL for CR, LF, NUL or another
 * control byte within it. */
static const byte *
scan_value(Span rest)
{
    const byte *at = rest.at;
    for (;;) {
        while (rest.end - at >= 8 && are_plain(at)) {
            at += 8;
        }
        const byte *stop = rest.end - at > 8 ? at + 8 : rest.end;
        while (at < stop && (*at >= 0x20 || *at == '\t') && *at != 0x7f) {
            at++;
        }
        if (at < stop) {
            return rest.end - at >= 2 && at[0] == '\r' && at[1] == '\n' ? at : NULL;
        }
        if (at == rest.end) {
            return NULL;
        }
    }
}

/* RFC 9110, 5.5: the blanks at the ends belong to the line and not to the value. */
static Span
strip(Span value)
{
    while (value.at < value.end && (*value.at == ' ' || *value.at == '\t')) {
        value.at++;
    }
    while (value.at < value.end && (value.end[-1] == ' ' || value.end[-1] == '\t')) {
        value.end--;
    }
    return value;
}

/* RFC 9112, 6: one length of digits or one coding `chunked`, never both. All else is for Python to judge. */
static bool
scan_framing(Lines *lines, const Found *found, Span unstripped)
{
    int kind = found->field->kind;
    if (kind & LENGTH) {
        const byte *at = found->value.at;
        if (found->value.end != unstripped.end || found->value.end - at > MAX_DIGITS || at == found->value.end) {
            return false;
        }
        while (at < found->value.end && *at >= '0' && *at <= '9') {
            at++;
        }
        lines->lengths++;
        if (at != found->value.end) {
            return false;
        }
    }
    if (kind & CODING) {
        lines->codings++;
        if (found->value.end != unstripped.end || !is_spelled(found->value, "chunked", true)) {
            return false;
        }
    }
    return lines->lengths + lines->codings <= 1;
}

enum Meaning { ORDINARY, SPECIAL, DOUBTFUL };

static enum Meaning
scan_family(Span name, const byte *key, size_t length)
{
    for (size_t i = 0; i < COUNT(FAMILIES); i++) {
        size_t own = strlen(FAMILIES[i].letters);
        if (length < own || memcmp(key, FAMILIES[i].letters, own) != 0) {
            continue;
        }
        if (is_spelled(name, FAMILIES[i].prefix, false)) {
            return SPECIAL;
        }
        return FAMILIES[i].alone && is_spelled(name, FAMILIES[i].alone, true) ? SPECIAL : DOUBTFUL;
    }
    return ORDINARY;
}

/* What a name means; `*field` is set if it is in the table. */
static enum Meaning
scan_meaning(const Names *names, Span name, const byte *key, size_t length, const Field **field)
{
    *field = NULL;
    if (length < MAX_KEY) {
        for (size_t i = names->first[length]; i < names->first[length + 1]; i++) {
            const Field *known = &names->fields[i];
            if (memcmp(known->key, key, length) != 0) {
                continue;
            }
            if ((known->kind & DECLINED) || !is_spelled(name, known->name ? known->name : known->key, true)) {
                return DOUBTFUL;
            }
            *field = known;
            return SPECIAL;
        }
    }
    if (!names->by_letters || (length && key[0] != 'x' && key[0] != 'p')) {
        return ORDINARY;
    }
    return scan_family(name, key, length < MAX_KEY ? length : MAX_KEY);
}

/* Read the line that begins at `rest.at`, behind its CRLF; return its end, NULL to decline. */
static const byte *
scan_line(const Names *names, Lines *lines, Span rest)
{
    byte key[MAX_KEY];
    size_t length;
    const Field *field;
    const byte *colon = scan_name(rest, names->by_letters, key, &length);
    if (colon == NULL) {
        return NULL;
    }
    Span value = {colon + 1, scan_value((Span){colon + 1, rest.end})};
    Span name = {rest.at, colon};
    enum Meaning meaning = scan_meaning(names, name, key, length, &field);
    if (value.end == NULL || meaning == DOUBTFUL) {
        return NULL;
    }
    if (meaning == SPECIAL) {
        if (lines->count == MAX_FOUND) {
            return NULL;
        }
        Found *found = &lines->found[lines->count++];
        *found = (Found){{rest.at - 2, value.end}, name, strip(value), field};
        if (field && (field->kind & (LENGTH | CODING)) && !scan_framing(lines, found, value)) {
            return NULL;
        }
    }
    return value.end;
}

/* Read the lines behind a request line or status line, from its CRLF to the end of the head, which is the first empty
 * line (RFC 9112, 2.1). */
static bool
scan_lines(const Names *names, Lines *lines, Span rest)
{
    const byte *at = rest.at;
    lines->count = lines->lengths = lines->codings = 0;
    for (int line = 0; line <= MAX_LINES; line++) {
        if (rest.end - at < 4) {
            return false;
        }
        if (at[2] == '\r') { /* `at` is at a CRLF */
            lines->block = (Span){rest.at, at};
            return at[3] == '\n' && rest.end - at == 4;
        }
        at = scan_line(names, lines, (Span){at + 2, rest.end});
        if (at == NULL) {
            return false;
        }
    }
    return false;
}

typedef struct {
    size_t method; /* its place in METHODS */
    Span line, path, query;
} RequestLine;

/* PLAIN_REQUEST_LINE of `wire.grammar` (RFC 9112, 3): a common method, the origin form, one space each, HTTP/1.1. */
static bool
scan_request_line(RequestLine *line, Span head)
{
    const byte *at = head.at, *begin;
    while (at < head.end && *at != ' ' && at - head.at < 8) {
        at++;
    }
    for (line->method = 0; line->method < COUNT(METHODS); line->method++) {
        if (is_text((Span){head.at, at}, METHODS[line->method])) {
            break;
        }
    }
    if (line->method == COUNT(METHODS) || head.end - at < 2 || at[0] != ' ' || at[1] != '/') {
        return false;
    }
    begin = ++at;
    while (at < head.end && (CLASS[*at] & PATH)) {
        at++;
    }
    line->path = (Span){begin, at};
    begin = at;
    if (at < head.end && *at == '?') {
        while (at < head.end && (CLASS[*at] & QUERY)) {
            at++;
        }
    }
    line->query = (Span){begin, at};
    if (head.end - at < 11 || memcmp(at, " HTTP/1.1\r\n", 11) != 0) {
        return false;
    }
    line->line = (Span){head.at, at + 9};
    return true;
}

typedef struct {
    int status;
    Span reason; /* the status line without its version */
} StatusLine;

/* STATUS_LINE of `wire.grammar` (RFC 9112, 4): HTTP/1.1, a final status, and the space behind it. */
static bool
scan_status_line(StatusLine *line, Span head)
{
    const byte *at = head.at;
    if (head.end - at < 13 || memcmp(at, "HTTP/1.1 ", 9) != 0 || at[12] != ' ') {
        return false;
    }
    for (int i = 9; i < 12; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return false;
        }
    }
    line->status = (at[9] - '0') * 100 + (at[10] - '0') * 10 + (at[11] - '0');
    line->reason = (Span){at + 8, scan_value((Span){at + 13, head.end})};
    return line->status >= 200 && line->reason.end != NULL;
}

/* ------------------------------------------------------------------------------------------------ make */

typedef struct {
    PyObject *methods[COUNT(METHODS)];
    PyObject *request[MAX_FIELDS], *response[MAX_FIELDS]; /* the names, as the keys of `special` */
} State;

static PyObject *
make_bytes(Span span)
{
    return PyBytes_FromStringAndSize((const char *)span.at, span.end - span.at);
}

/* The lines without those that are dropped. */
static PyObject *
make_block(const Lines *lines)
{
    Py_ssize_t size = lines->block.end - lines->block.at;
    for (int i = 0; i < lines->count; i++) {
        const Found *found = &lines->found[i];
        size -= !found->field || (found->field->kind & DROPPED) ? found->line.end - found->line.at : 0;
    }
    PyObject *block = PyBytes_FromStringAndSize(NULL, size);
    if (block == NULL) {
        return NULL;
    }
    char *to = PyBytes_AsString(block);
    const byte *from = lines->block.at;
    for (int i = 0; i <= lines->count; i++) {
        const Found *found = i < lines->count ? &lines->found[i] : NULL;
        if (found && found->field && !(found->field->kind & DROPPED)) {
            continue;
        }
        size_t length = (size_t)((found ? found->line.at : lines->block.end) - from);
        memcpy(to, from, length);
        to += length;
        from = found ? found->line.end : from;
    }
    return block;
}

/* The name of a field, as a key: in lower case. */
static PyObject *
make_name(const Found *found, const Names *names, PyObject *const *known)
{
    if (found->field) {
        return Py_NewRef(known[found->field - names->fields]);
    }
    PyObject *name = make_bytes(found->name);
    char *text = name ? PyBytes_AsString(name) : NULL;
    for (Py_ssize_t i = 0; text && i < found->name.end - found->name.at; i++) {
        text[i] = (char)LOWER[found->name.at[i]];
    }
    return name;
}

/* Add a value to the list of its name; return 0, or -1 with an exception. */
static int
add_value(PyObject *special, PyObject *name, PyObject *value)
{
    PyObject *values = PyDict_GetItemWithError(special, name);
    if (values) {
        return PyList_Append(values, value);
    }
    if (PyErr_Occurred() || (values = PyList_New(1)) == NULL) {
        return -1;
    }
    int failed = PyList_SetItem(values, 0, Py_NewRef(value)) || PyDict_SetItem(special, name, values);
    Py_DECREF(values);
    return failed ? -1 : 0;
}

/* The values of the special fields, by name. */
static PyObject *
make_special(const Lines *lines, const Names *names, PyObject *const *known)
{
    PyObject *special = PyDict_New();
    for (int i = 0; special && i < lines->count; i++) {
        PyObject *name = make_name(&lines->found[i], names, known);
        PyObject *value = make_bytes(lines->found[i].value);
        int failed = !name || !value ? -1 : add_value(special, name, value);
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (failed) {
            Py_CLEAR(special);
        }
    }
    return special;
}

/* A tuple of these objects, whose references it takes; NULL if one of them is. */
static PyObject *
make_tuple(PyObject *const *items, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    bool whole = tuple != NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        whole = whole && items[i] != NULL;
        if (tuple == NULL) {
            Py_XDECREF(items[i]);
        }
        else if (items[i]) { /* the tuple owns it, also if this fails */
            whole = PyTuple_SetItem(tuple, i, items[i]) == 0 && whole;
        }
    }
    if (!whole) {
        Py_CLEAR(tuple);
    }
    return tuple;
}

/* --------------------------------------------------------------------------------------- the functions */

/* Set the span of a head that can be looked at; return 1, 0 to decline, -1 with TypeError. */
static int
take_head(PyObject *object, Span *head)
{
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(object, &bytes, &size) < 0) {
        return -1;
    }
    *head = (Span){(const byte *)bytes, (const byte *)bytes + size};
    return size <= MAX_HEAD;
}

PyDoc_STRVAR(request_doc, "Return (method, line, path, query, block, special) of a request head, or None: not judged.");

static PyObject *
request(PyObject *module, PyObject *object)
{
    Span head;
    RequestLine line;
    Lines lines;
    int taken = take_head(object, &head);
    if (taken < 0) {
        return NULL;
    }
    if (!taken || !scan_request_line(&line, head) ||
        !scan_lines(&REQUEST_NAMES, &lines, (Span){line.line.end, head.end})) {
        Py_RETURN_NONE;
    }
    State *state = PyModule_GetState(module);
    PyObject *items[] = {
        Py_NewRef(state->methods[line.method]),
        make_bytes(line.line),
        make_bytes(line.path),
        make_bytes(line.query),
        make_block(&lines),
        make_special(&lines, &REQUEST_NAMES, state->request),
    };
    return make_tuple(items, COUNT(items));
}

PyDoc_STRVAR(response_doc, "Return (status, reason, block, special) of the head of an answer, or None: not judged.");

static PyObject *
response(PyObject *module, PyObject *object)
{
    Span head;
    StatusLine line;
    Lines lines;
    int taken = take_head(object, &head);
    if (taken < 0) {
        return NULL;
    }
    if (!taken || !scan_status_line(&line, head) ||
        !scan_lines(&RESPONSE_NAMES, &lines, (Span){line.reason.end, head.end})) {
        Py_RETURN_NONE;
    }
    State *state = PyModule_GetState(module);
    PyObject *items[] = {
        PyLong_FromLong(line.status),
        make_bytes(line.reason),
        make_block(&lines),
        make_special(&lines, &RESPONSE_NAMES, state->response),
    };
    return make_tuple(items, COUNT(items));
}

/* ------------------------------------------------------------------------------------------ the module */

static int
fill_keys(PyObject **keys, const Field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        keys[i] = PyBytes_FromString(fields[i].name ? fields[i].name : fields[i].key);
        if (keys[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
execute(PyObject *module)
{
    State *state = PyModule_GetState(module);
    fill_classes();
    fill_names(&REQUEST_NAMES, COUNT(REQUEST));
    fill_names(&RESPONSE_NAMES, COUNT(RESPONSE));
    for (size_t i = 0; i < COUNT(METHODS); i++) {
        state->methods[i] = PyUnicode_InternFromString(METHODS[i]);
        if (state->methods[i] == NULL) {
            return -1;
        }
    }
    if (fill_keys(state->request, REQUEST, COUNT(REQUEST))) {
        return -1;
    }
    if (fill_keys(state->response, RESPONSE, COUNT(RESPONSE))) {
        return -1;
    }
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

/* Nothing that is kept refers to the module: there is no cycle to look for, only references to give back. */
static void
release(void *module)
{
    State *state = PyModule_GetState(module);
    for (size_t i = 0; state && i < COUNT(METHODS); i++) {
        Py_CLEAR(state->methods[i]);
    }
    for (size_t i = 0; state && i < MAX_FIELDS; i++) {
        Py_CLEAR(state->request[i]);
        Py_CLEAR(state->response[i]);
    }
}

static PyMethodDef METHOD_TABLE[] = {
    {"request", request, METH_O, request_doc},
    {"response", response, METH_O, response_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "propylon.wire._heads",
    .m_doc = "A quick way to read heads: what it accepts, `wire` accepts with an equal result.",
    .m_size = sizeof(State),
    .m_methods = METHOD_TABLE,
    .m_slots = SLOTS,
    .m_free = release,
};

PyMODINIT_FUNC
PyInit__heads(void)
{
    return PyModuleDef_Init(&MODULE);
}
