#include "runtime/text/template_priv.h"

#include <string.h>

typedef struct scan {
    const char *at;
    ag_array_t *form;
    size_t literal_end; /* length of the form where a literal was closed last */
    bool joins;         /* an output that follows may be joined to what stands last */
    bool understood;
    ag_status_t status;
} scan_t;

/* What stands before a stretch of text between tags. */
typedef enum edge { EDGE_START, EDGE_OUTPUT, EDGE_BLOCK, EDGE_TRIMMING } edge_t;

static void emit(scan_t *scan, const char *bytes, size_t n_bytes)
{
    if (scan->status == AG_OK) {
        scan->status = ag_array_append(scan->form, bytes, n_bytes);
    }
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Would the two be another word, or an operator, without the space between them? */
static bool would_join(char left, char right)
{
    return (is_word(left) && is_word(right)) ||
           (strchr("!=<>*/", left) != NULL && strchr("=*/", right) != NULL);
}

static bool ends_with(const scan_t *scan, const char *end)
{
    size_t n = strlen(end), n_form = scan->form->n_items;

    return n_form >= n && memcmp(AG_ITEMS(scan->form, char) + n_form - n, end, n) == 0;
}

static void emit_literal_character(scan_t *scan, char c)
{
    switch (c) {
    case '\n':
        emit(scan, "\\n", 2);
        break;
    case '\\':
        emit(scan, "\\\\", 2);
        break;
    case '\'':
        emit(scan, "\\'", 2);
        break;
    default:
        emit(scan, &c, 1);
    }
}

/* One character of text; Jinja makes all line ends \n. */
static char next_character(scan_t *scan)
{
    char c = *scan->at++;

    if (c == '\r') {
        scan->at += *scan->at == '\n';
        return '\n';
    }
    return c;
}

/* One character of a literal, by its rules in Python; the escapes not listed are rare. */
static void copy_literal_character(scan_t *scan)
{
    static const char escapes[] = "n\nt\tr\r\\\\''\"\"";
    char c = next_character(scan);

    if (c == '\\') {
        const char *found = escapes;

        while (*found != '\0' && *found != *scan->at) {
            found += 2;
        }
        scan->understood &= *found != '\0';
        c = found[*found != '\0'];
        scan->at += *scan->at != '\0';
    }
    emit_literal_character(scan, c);
}

/* A literal that follows another after a + goes on with it. */
static void open_literal(scan_t *scan)
{
    if (ends_with(scan, "'+") && scan->literal_end == scan->form->n_items - 1) {
        scan->form->n_items -= 2;
    } else {
        emit(scan, "'", 1);
    }
}

static void close_literal(scan_t *scan)
{
    emit(scan, "'", 1);
    scan->literal_end = scan->form->n_items;
}

static void copy_literal(scan_t *scan)
{
    char quote = *scan->at++;

    open_literal(scan);
    while (*scan->at != '\0' && *scan->at != quote) {
        copy_literal_character(scan);
    }
    scan->understood &= *scan->at == quote;
    scan->at += *scan->at == quote;
    close_literal(scan);
}

/* x['name'] becomes x.name, which means the same for a message. @return false: it is no such. */
static bool copy_subscript(scan_t *scan)
{
    const char *name = scan->at + 1, *end;
    size_t n_name;

    while (is_space(*name)) {
        name++;
    }
    if (*name != '\'' && *name != '"') {
        return false;
    }
    for (end = name + 1; is_word(*end);) {
        end++;
    }
    if (end == name + 1 || *end != *name || (name[1] >= '0' && name[1] <= '9')) {
        return false;
    }
    n_name = (size_t)(end - name) - 1;
    for (end++; is_space(*end);) {
        end++;
    }
    if (*end != ']') {
        return false; /* a list of literals */
    }
    emit(scan, ".", 1);
    emit(scan, name + 1, n_name);
    scan->at = end + 1;
    return true;
}

/* An output goes on with the one before it: {{a}}{{b}} is {{a+b}}, unless either is a choice. */
static void open_output(scan_t *scan, bool joins)
{
    if (joins && scan->joins && ends_with(scan, "}}")) {
        scan->form->n_items -= 2;
        emit(scan, "+", 1);
    } else {
        emit(scan, "{{", 2);
    }
    scan->joins = joins;
}

/* Has the tag a word "if" in it? "a if b else c" binds less than "+". */
static bool chooses(const char *at, const char *close)
{
    for (; *at != '\0' && strncmp(at, close, 2) != 0; at++) {
        if (is_space(at[0]) && at[1] == 'i' && at[2] == 'f' && is_space(at[3])) {
            return true;
        }
    }
    return false;
}

/* A tag from "{%" or "{{" to its end. @return what kind of edge it is to the text behind it. */
static edge_t copy_tag(scan_t *scan)
{
    bool is_output = scan->at[1] == '{', spaced = false;
    const char *close = is_output ? "}}" : "%}";

    if (is_output) {
        open_output(scan, !chooses(scan->at, close));
    } else {
        emit(scan, scan->at, 2);
    }
    scan->at += 2 + (scan->at[2] == '-');
    while (*scan->at != '\0' && scan->understood && scan->status == AG_OK) {
        const char *end = scan->at + (*scan->at == '-');
        bool trims = end > scan->at;

        if (end[0] == close[0] && end[1] == close[1]) {
            scan->at = end + 2;
            emit(scan, close, 2);
            return trims ? EDGE_TRIMMING : is_output ? EDGE_OUTPUT : EDGE_BLOCK;
        }
        if (is_space(*scan->at)) {
            spaced = true;
            scan->at++;
            continue;
        }
        if (*scan->at == '\'' || *scan->at == '"') {
            copy_literal(scan);
        } else if (*scan->at != '[' || !copy_subscript(scan)) {
            if (spaced && scan->form->n_items > 0 &&
                would_join(AG_ITEMS(scan->form, char)[scan->form->n_items - 1], *scan->at)) {
                emit(scan, " ", 1);
            }
            emit(scan, scan->at++, 1);
        }
        spaced = false;
    }
    scan->understood = false; /* it ends within a tag */
    return EDGE_OUTPUT;
}

/* A comment says nothing, but white space beside it is dropped as beside a block. */
static edge_t skip_comment(scan_t *scan)
{
    const char *end = strstr(scan->at + 2, "#}");

    if (end == NULL) {
        scan->understood = false;
        return EDGE_BLOCK;
    }
    scan->at = end + 2;
    return end[-1] == '-' ? EDGE_TRIMMING : EDGE_BLOCK;
}

static bool is_tag(const char *at)
{
    return at[0] == '{' && (at[1] == '{' || at[1] == '%' || at[1] == '#');
}

/* Where what stands before a block on its line begins, if that is space; else end. */
static const char *line_begin(const char *begin, const char *end, bool line_begins)
{
    const char *at = end;

    while (at > begin && is_space(at[-1]) && at[-1] != '\n' && at[-1] != '\r') {
        at--;
    }
    return at > begin ? (at[-1] == '\n' || at[-1] == '\r' ? at : end) : line_begins ? at : end;
}

/*
 * The text up to the next tag, less the space that Jinja drops: beside a '-', the line feed behind
 * a block (trim_blocks), what stands before a block on its line (lstrip_blocks), the last line feed
 * of the template. What is left is written, and so it is a literal.
 */
static void copy_text(scan_t *scan, edge_t edge)
{
    const char *begin = scan->at, *end = begin, *next;
    bool line_begins = edge == EDGE_START;

    while (*end != '\0' && !is_tag(end)) {
        end++;
    }
    next = end;
    if (*next == '\0' && end > begin && (end[-1] == '\n' || end[-1] == '\r')) {
        end--;
        end -= end > begin && end[-1] == '\r' && end[0] == '\n';
    }
    while (edge == EDGE_TRIMMING && begin < end && is_space(*begin)) {
        begin++;
    }
    if (edge == EDGE_BLOCK && begin < end && (*begin == '\n' || *begin == '\r')) {
        begin += begin[0] == '\r' && begin[1] == '\n' ? 2 : 1;
        line_begins = true;
    }
    if (*next != '\0' && next[2] == '-') {
        while (end > begin && is_space(end[-1])) {
            end--;
        }
    } else if (*next != '\0' && next[1] != '{' && next[2] != '+') {
        end = line_begin(begin, end, line_begins);
    }
    if (end > begin) {
        open_output(scan, true);
        open_literal(scan);
        for (scan->at = begin; scan->at < end;) {
            emit_literal_character(scan, next_character(scan));
        }
        close_literal(scan);
        emit(scan, "}}", 2);
    }
    scan->at = next;
}

ag_status_t ag_template_form(const char *template, ag_array_t *form)
{
    scan_t scan = {.at = template, .form = form, .understood = true};
    edge_t edge = EDGE_START;

    while (scan.status == AG_OK && scan.understood) {
        copy_text(&scan, edge);
        if (*scan.at == '\0') {
            break;
        }
        edge = scan.at[1] == '#' ? skip_comment(&scan) : copy_tag(&scan);
    }
    if (!scan.understood) {
        form->n_items = 0;
    }
    emit(&scan, "", 1);
    return scan.status;
}

/* The end of a literal, from a place within it: its closing quote. */
static const char *literal_end(const char *at)
{
    while (*at != '\0' && *at != '\'') {
        at += 1 + (at[0] == '\\' && at[1] != '\0');
    }
    return at;
}

static const char *tag_end(const char *at)
{
    for (at += 2; *at != '\0'; at++) {
        if (*at == '\'') {
            at = literal_end(at + 1);
            if (*at == '\0') {
                break;
            }
        } else if (at[1] == '}' && (at[0] == '}' || at[0] == '%')) {
            return at + 2;
        }
    }
    return at;
}

static bool begins(const char *at, const char *with)
{
    return strncmp(at, with, strlen(with)) == 0;
}

/* Over tags that close what they open, up to one that goes on with, or closes, what is around. */
static const char *skip_dead(const char *at)
{
    unsigned depth = 0;

    while (*at != '\0') {
        bool closes = begins(at, "{%end");

        if (depth == 0 && (closes || begins(at, "{%else") || begins(at, "{%elif"))) {
            break;
        }
        depth += begins(at, "{%if") || begins(at, "{%for") || begins(at, "{%macro");
        depth -= closes;
        at = tag_end(at);
    }
    return at;
}

/* The rest of a literal of which the form has more behind the place that it leaves open. */
static const char *open_end(const char *text, const char *form)
{
    const char *end = literal_end(text);
    size_t n_behind = (size_t)(literal_end(form) - form);

    return (size_t)(end - text) < n_behind ? NULL : end - n_behind;
}

bool ag_template_matches(const char *text, const char *form, ag_template_text_t found[],
                         size_t *n_found_p)
{
    *n_found_p = 0;
    while (*form != '\0') {
        if (*form == AG_FORM_DEAD[0]) {
            text = skip_dead(text);
            form++;
        } else if (*form == AG_FORM_TEXT[0] || *form == AG_FORM_ANY[0]) {
            const char *end = open_end(text, form + 1);

            if (end == NULL) {
                return false;
            }
            if (*form == AG_FORM_TEXT[0] && *n_found_p < AG_FORM_MOST_TEXTS) {
                found[(*n_found_p)++] =
                    (ag_template_text_t){.bytes = text, .n_bytes = (size_t)(end - text)};
            }
            text = end;
            form++;
        } else if (*text++ != *form++) {
            return false;
        }
    }
    return *text == '\0';
}

ag_status_t ag_template_unescape(const char *text, size_t n_bytes, ag_array_t *plain)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_bytes && status == AG_OK; i++) {
        bool escaped = text[i] == '\\' && i + 1 < n_bytes;

        i += escaped;
        status = ag_array_append(plain, escaped && text[i] == 'n' ? "\n" : text + i, 1);
    }
    return status;
}
