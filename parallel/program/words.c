#include "parallel/program/words.h"

#include <string.h>

#include "runtime/base/line.h"

enum { MOST_QUOTED = 32, EXPECTED_BYTES = 160 };

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip_blanks(ag_program_text_t *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t')) {
        text->at++;
    }
}

bool ag_words_line_ends(ag_words_t *words)
{
    ag_program_text_t *text = words->text;

    skip_blanks(text);
    return words->status != AG_OK || text->at == text->end || *text->at == '\n';
}

static void skip_line(ag_program_text_t *text)
{
    while (text->at < text->end && *text->at != '\n') {
        text->at++;
    }
    if (text->at < text->end) {
        text->at++;
        text->line++;
    }
}

bool ag_words_next_line(ag_words_t *words)
{
    ag_program_text_t *text = words->text;

    while (words->status == AG_OK && text->at < text->end &&
           (ag_words_line_ends(words) || *text->at == '#')) {
        skip_line(text);
    }
    return words->status == AG_OK && text->at < text->end;
}

bool ag_words_look(ag_words_t *words, const char *word)
{
    const ag_program_text_t *text = words->text;
    size_t n_chars = strlen(word), n_left;

    skip_blanks(words->text);
    n_left = (size_t)(text->end - text->at);
    return words->status == AG_OK && n_left >= n_chars && memcmp(text->at, word, n_chars) == 0 &&
           !(is_letter(word[n_chars - 1]) && n_left > n_chars && is_letter(text->at[n_chars]));
}

bool ag_words_take(ag_words_t *words, const char *word)
{
    bool found = ag_words_look(words, word);

    words->text->at += found ? strlen(word) : 0;
    return found;
}

void ag_words_expect(ag_words_t *words, const char *word)
{
    char expected[EXPECTED_BYTES] = "";

    if (!ag_words_take(words, word)) {
        ag_line_append(expected, sizeof(expected), "\"%s\"", word);
        ag_words_fail(words, expected);
    }
}

void ag_words_expect_line_end(ag_words_t *words)
{
    if (!ag_words_line_ends(words)) {
        ag_words_fail(words, "the end of the line");
    }
}

uint64_t ag_words_number(ag_words_t *words, const char *what, uint64_t least, uint64_t most)
{
    ag_program_text_t *text = words->text;
    char expected[EXPECTED_BYTES] = "";
    const char *at;
    uint64_t number = 0;
    bool fits = true;

    skip_blanks(text);
    for (at = text->at; at < text->end && is_digit(*at); at++) {
        uint64_t digit = (uint64_t)(*at - '0');

        fits = fits && number <= (UINT64_MAX - digit) / 10;
        number = number * 10 + digit;
    }
    if (words->status == AG_OK && at > text->at && fits && number >= least && number <= most) {
        text->at = at;
        return number;
    }
    ag_line_append(expected, sizeof(expected), "%s from %llu to %llu", what,
                   (unsigned long long)least, (unsigned long long)most);
    ag_words_fail(words, expected);
    return 0;
}

static size_t count_letters(const ag_program_text_t *text, bool is_name)
{
    const char *at = text->at;

    while (at < text->end && (is_letter(*at) || (is_name && (is_digit(*at) || *at == '.')))) {
        at++;
    }
    return (size_t)(at - text->at);
}

void ag_words_name(ag_words_t *words, const char *what, size_t n_bytes, char *name)
{
    char expected[EXPECTED_BYTES] = "";
    size_t n_chars;

    skip_blanks(words->text);
    n_chars = count_letters(words->text, true);
    name[0] = '\0';
    if (n_chars == 0 || n_chars >= n_bytes) {
        ag_line_append(expected, sizeof(expected), "%s of 1 to %zu letters, digits, _ and .", what,
                       n_bytes - 1);
        ag_words_fail(words, expected);
    }
    if (words->status == AG_OK) {
        memcpy(name, words->text->at, n_chars);
        name[n_chars] = '\0';
        words->text->at += n_chars;
    }
}

uint32_t ag_words_choose(ag_words_t *words, const char *what, uint32_t n,
                         const char *(*nth)(uint32_t i))
{
    char expected[EXPECTED_BYTES] = "";
    size_t n_chars;

    skip_blanks(words->text);
    n_chars = count_letters(words->text, false);
    ag_line_append(expected, sizeof(expected), "%s (", what);
    for (uint32_t i = 0; i < n; i++) {
        if (words->status == AG_OK && strlen(nth(i)) == n_chars &&
            memcmp(words->text->at, nth(i), n_chars) == 0) {
            words->text->at += n_chars;
            return i;
        }
        ag_line_append(expected, sizeof(expected), "%s%s", nth(i), i + 1 < n ? ", " : ")");
    }
    ag_words_fail(words, expected);
    return 0;
}

void ag_words_fail(ag_words_t *words, const char *expected)
{
    ag_program_text_t *text = words->text;
    char quoted[MOST_QUOTED + 32] = "the text ends there";

    if (words->status != AG_OK) {
        return;
    }
    skip_blanks(text);
    if (text->at < text->end) {
        strcpy(quoted, *text->at == '\n' ? "the line ends there" : "\"");
    }
    if (quoted[0] == '"') {
        for (size_t i = 0; i < MOST_QUOTED && text->at + i < text->end; i++) {
            char c = text->at[i];

            if (c == ' ' || c == '\n') {
                break;
            }
            ag_line_append(quoted, sizeof(quoted), "%c", c > ' ' && c <= '~' ? c : '?');
        }
        ag_line_append(quoted, sizeof(quoted), "\" stands there");
    }
    words->status = ag_fail(AG_ERR_INVALID, "%s, line %u: %s is expected, but %s", text->name,
                            text->line, expected, quoted);
}
