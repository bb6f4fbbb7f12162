#include "runtime/text/template_priv.h"

#include <string.h>

typedef struct scan {
    const char *at;
    ag_array_t *form;
    size_t literal_end; /* length of the form where a literal was closed last */
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

/* One character of a literal, by its rules in Python; the escapes not listed are rare. */
static void copy_literal_character(scan_t *scan)
{
    static const char escapes[] = "n\nt\tr\r\\\\''\"\"";
    char c = *scan->at++;

    if (c == '\\') {
        const char *found = escapes;

        while (*found != '\0' && *found != *scan->at) {
            found += 2;
        }
        scan->understood &= *found != '\0';
        c = found[*found != '\0'];
        scan->at += *scan->at != '\0';
    } else if (c == '\r') { /* Jinja makes all line ends \n */
        c = '\n';
        scan->at += *scan->at == '\n';
    }
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

static void copy_literal(scan_t *scan)
{
    char quote = *scan->at++;

    if (ends_with(scan, "'+") && scan->literal_end == scan->form->n_items - 1) {
        scan->form->n_items -= 2;
    } else {
        emit(scan, "'", 1);
    }
    while (*scan->at != '\0' && *scan->at != quote) {
        copy_literal_character(scan);
    }
    scan->understood &= *scan->at == quote;
    scan->at += *scan->at == quote;
    emit(scan, "'", 1);
    scan->literal_end = scan->form->n_items;
}

/* x['name'] becomes x.name, which means the same for a message. @return false: it is no such. */
static bool copy_subscript(scan_t *scan)
{
    const char *name = scan->at + 1, *end;

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
    emit(scan, ".", 1);
    emit(scan, name + 1, (size_t)(end - name) - 1);
    for (end++; is_space(*end);) {
        end++;
    }
    scan->understood &= *end == ']';
    scan->at = end + (*end == ']');
    return true;
}

/* A tag from "{%" or "{{" to its end. @return what kind of edge it is to the text behind it. */
static edge_t copy_tag(scan_t *scan)
{
    bool is_output = scan->at[1] == '{', spaced = false;
    const char *close = is_output ? "}}" : "%}";

    if (is_output && ends_with(scan, "}}")) {
        scan->form->n_items -= 2;
        emit(scan, "+", 1);
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

/*
 * Go over the text up to the next tag; it must be space that Jinja drops: beside a '-', the line
 * feed behind a block (trim_blocks), what stands before a block on its line (lstrip_blocks), the
 * last line feed of the template.
 */
static void skip_between(scan_t *scan, edge_t edge)
{
    const char *begin = scan->at, *end = begin;
    bool line_begins = edge == EDGE_START, left, drops;

    if (edge == EDGE_BLOCK) {
        line_begins = *begin == '\n' || *begin == '\r';
        begin += *begin == '\r';
        begin += *begin == '\n';
    }
    for (end = begin; is_space(*end);) {
        end++;
    }
    scan->at = end;
    if (*end != '\0' && (*end != '{' || (end[1] != '{' && end[1] != '%'))) {
        scan->understood = false;
        return;
    }
    if (*end == '\0') {
        left = end > begin && strcmp(begin, "\n") != 0 && strcmp(begin, "\r\n") != 0;
        drops = false;
    } else {
        left = end > begin;
        drops = end[2] == '-' || (end[1] == '%' && end[2] != '+' && line_begins &&
                                  memchr(begin, '\n', (size_t)(end - begin)) == NULL &&
                                  memchr(begin, '\r', (size_t)(end - begin)) == NULL);
    }
    scan->understood &= !left || drops || edge == EDGE_TRIMMING;
}

ag_status_t ag_template_form(const char *template, ag_array_t *form)
{
    scan_t scan = {.at = template, .form = form, .understood = true};
    edge_t edge = EDGE_START;

    while (scan.status == AG_OK && scan.understood) {
        skip_between(&scan, edge);
        if (*scan.at == '\0' || !scan.understood) {
            break;
        }
        edge = copy_tag(&scan);
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
        bool closes = begins(at, "{%endif") || begins(at, "{%endfor");

        if (depth == 0 && (closes || begins(at, "{%else") || begins(at, "{%elif"))) {
            break;
        }
        depth += begins(at, "{%if") || begins(at, "{%for");
        depth -= closes;
        at = tag_end(at);
    }
    return at;
}

bool ag_template_matches(const char *text, const char *form, const char **found_p,
                         size_t *n_found_p)
{
    *found_p = NULL;
    *n_found_p = 0;
    while (*form != '\0') {
        if (*form == AG_FORM_DEAD[0]) {
            text = skip_dead(text);
            form++;
        } else if (*form == AG_FORM_TEXT[0]) {
            const char *end = literal_end(text);
            size_t n_behind = (size_t)(literal_end(form + 1) - form) - 1;

            form++;
            if ((size_t)(end - text) < n_behind) {
                return false;
            }
            *found_p = text;
            *n_found_p = (size_t)(end - text) - n_behind;
            text = end - n_behind;
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
