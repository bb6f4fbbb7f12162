/* Dialogues as text, by the row that describes the template. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/utf8.h"
#include "runtime/text/chat_priv.h"
#include "runtime/text/tokenizer_priv.h"
#include "runtime/text/unicode_priv.h"

static const char end_of_thoughts[] = "</think>", begin_of_thoughts[] = "<think>";

typedef struct bytes {
    const char *at;
    size_t n;
} bytes_t;

typedef struct rendering {
    const ag_chat_t *chat;
    const ag_chat_style_t *style;
    const ag_chat_message_t *messages; /* (n) */
    size_t n;
    size_t asked; /* the last user turn (Qwen3: that is no tool's response); n - 1: there is none */
    bool prompt;
    bool thinks;     /* AG_SYSTEM_SWITCHES */
    bool asked_last; /* the last turn was the user's */
    ag_chat_text_t *out;
    ag_status_t status;
} rendering_t;

void ag_chat_text_init(ag_chat_text_t *text)
{
    *text = (ag_chat_text_t){.text = AG_ARRAY(char),
                             .answers = AG_ARRAY(ag_text_span_t),
                             .contents = AG_ARRAY(ag_text_span_t)};
}

void ag_chat_text_fini(ag_chat_text_t *text)
{
    ag_array_fini(&text->text);
    ag_array_fini(&text->answers);
    ag_array_fini(&text->contents);
}

static void put(rendering_t *r, const char *bytes, size_t n_bytes)
{
    if (r->status == AG_OK) {
        r->status = ag_array_append(&r->out->text, bytes, n_bytes);
    }
}

/* The text of a token that the tokenizer names. */
static void put_token(rendering_t *r, int32_t id)
{
    size_t n_bytes;
    const char *bytes = ag_tokenizer_piece(r->chat->tokenizer, id, AG_TOKEN_SPECIAL, &n_bytes);

    put(r, bytes, n_bytes);
}

typedef enum date_form { DATE_DAY, DATE_LONG_DAY, DATE_NUMBERS } date_form_t;

static void put_date(rendering_t *r, date_form_t form)
{
    static const char *const months[] = {"January",   "February", "March",    "April",
                                         "May",       "June",     "July",     "August",
                                         "September", "October",  "November", "December"};
    ag_date_t date = r->chat->opts.date;
    char text[48];

    if (date.year == 0 || date.month < 1 || date.month > 12) {
        date = (ag_date_t){2024, 7, 26};
    }
    if (form == DATE_NUMBERS) {
        snprintf(text, sizeof(text), "%04u-%02u-%02u", date.year, date.month, date.day);
    } else {
        snprintf(text, sizeof(text), "%02u %.*s %04u", date.day, form == DATE_DAY ? 3 : 9,
                 months[date.month - 1], date.year);
    }
    put(r, text, strlen(text));
}

static bool named(const char *name, size_t n, const char *known)
{
    return n == strlen(known) && memcmp(name, known, n) == 0;
}

/* What stands in braces in a mark. */
static void put_named(rendering_t *r, const char *name, size_t n)
{
    const ag_tokenizer_t *tokenizer = r->chat->tokenizer;

    if (named(name, n, "bos")) {
        put_token(r, tokenizer->named_bos);
    } else if (named(name, n, "eos")) {
        put_token(r, tokenizer->named_eos);
    } else if (named(name, n, "day")) {
        put_date(r, DATE_DAY);
    } else if (named(name, n, "longday")) {
        put_date(r, DATE_LONG_DAY);
    } else if (named(name, n, "date")) {
        put_date(r, DATE_NUMBERS);
    } else if (named(name, n, "thinking")) {
        put(r, r->thinks ? "/think" : "/no_think", r->thinks ? 6 : 9);
    } else if (named(name, n, "effort")) {
        const char *effort = r->chat->opts.effort != NULL ? r->chat->opts.effort : "medium";

        put(r, effort, strlen(effort));
    } else {
        const ag_array_t *text = &r->chat->texts[name[n - 1] - '0'];

        put(r, text->items, text->n_items);
    }
}

static void put_mark(rendering_t *r, const char *mark)
{
    while (mark != NULL && *mark != '\0') {
        size_t n = strcspn(mark, "{");

        put(r, mark, n);
        mark += n;
        if (*mark == '{') {
            n = strcspn(mark, "}");
            put_named(r, mark + 1, n - 1);
            mark += n + 1;
        }
    }
}

static void put_content(rendering_t *r, bytes_t content)
{
    ag_text_span_t span = {.begin = r->out->text.n_items};
    char *repaired = NULL;

    if (content.n == 0 || r->status != AG_OK) {
        return;
    }
    if (!ag_utf8_valid(content.at, content.n)) {
        r->status = ag_utf8_repair(content.at, content.n, &repaired, &content.n, NULL);
        content.at = repaired;
    }
    put(r, content.at, content.n);
    free(repaired);
    span.end = r->out->text.n_items;
    if (r->status == AG_OK) {
        r->status = ag_array_append(&r->out->contents, &span, 1);
    }
}

/* Bytes of what Python's str.strip() drops at one end: white space and four controls; 0: none. */
static size_t space_at(const char *text, size_t n_bytes, bool at_end)
{
    unsigned char edge = n_bytes == 0 ? 0 : (unsigned char)text[at_end ? n_bytes - 1 : 0];

    if (n_bytes == 0) {
        return 0;
    }
    return edge >= 28 && edge <= 31 ? 1
           : at_end                 ? ag_unicode_space_before(text, 0, n_bytes)
                                    : ag_unicode_space_at(text, n_bytes);
}

static bytes_t trimmed(bytes_t text)
{
    size_t n;

    while ((n = space_at(text.at, text.n, false)) > 0) {
        text = (bytes_t){text.at + n, text.n - n};
    }
    while ((n = space_at(text.at, text.n, true)) > 0) {
        text.n -= n;
    }
    return text;
}

static bytes_t without_lines(bytes_t text, bool left, bool right)
{
    while (left && text.n > 0 && *text.at == '\n') {
        text = (bytes_t){text.at + 1, text.n - 1};
    }
    while (right && text.n > 0 && text.at[text.n - 1] == '\n') {
        text.n--;
    }
    return text;
}

/* Drop white space at the end of what was written since a place. */
static void trim_end(rendering_t *r, size_t since)
{
    ag_array_t *text = &r->out->text, *contents = &r->out->contents;
    size_t n;

    while (r->status == AG_OK &&
           (n = space_at(AG_ITEMS(text, char) + since, text->n_items - since, true)) > 0) {
        text->n_items -= n;
    }
    while (contents->n_items > 0) {
        ag_text_span_t *span = AG_ITEMS(contents, ag_text_span_t) + contents->n_items - 1;

        if (span->end <= text->n_items) {
            break;
        }
        span->end = text->n_items;
        contents->n_items -= span->begin >= span->end;
    }
}

static bytes_t content_of(const ag_chat_message_t *message)
{
    return (bytes_t){message->content, message->content_bytes};
}

static bool is(const ag_chat_message_t *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

static bytes_t trimmed_if(const rendering_t *r, unsigned flag, const ag_chat_message_t *message)
{
    return r->style->flags & flag ? trimmed(content_of(message)) : content_of(message);
}

static void put_system(rendering_t *r, size_t i)
{
    const ag_chat_style_t *style = r->style;

    if (r->messages[i].content_bytes == 0 && (style->flags & AG_CHAT_SYSTEM_IF_SAID)) {
        return;
    }
    put_mark(r, i > 0 && style->later_system != NULL ? style->later_system : style->system.before);
    put_content(r, trimmed_if(r, AG_CHAT_TRIMS_SYSTEM, &r->messages[i]));
    put_mark(r, style->system.end);
    put_mark(r, style->system.behind);
}

/* @param system  what is put into the turn; NULL: nothing. */
static void put_user(rendering_t *r, size_t i, const ag_chat_message_t *system)
{
    const ag_chat_style_t *style = r->style;
    bytes_t content = trimmed_if(r, AG_CHAT_TRIMS_USER, &r->messages[i]);
    bool whole = style->flags & AG_CHAT_TRIMS_TURN;
    size_t begin;

    put_mark(r, style->user.before);
    begin = r->out->text.n_items;
    if (system != NULL) {
        put_mark(r, style->system.before);
        put_content(r, content_of(system));
        put_mark(r, style->system.end);
    } else if (whole) {
        content = trimmed(content);
    }
    put_content(r, content);
    if (whole) {
        trim_end(r, begin);
    }
    put_mark(r, style->user.end);
    put_mark(r, style->user.behind);
}

/* Where a text begins in another; NULL: nowhere. @param last  the last such place. */
static const char *find(bytes_t in, const char *text, bool last)
{
    const char *found = NULL;
    size_t n = strlen(text);

    for (size_t i = 0; i + n <= in.n && (found == NULL || last); i++) {
        if (memcmp(in.at + i, text, n) == 0) {
            found = in.at + i;
        }
    }
    return found;
}

static bytes_t after(bytes_t text, const char *place, size_t n)
{
    const char *begin = place + n;

    return (bytes_t){begin, text.n - (size_t)(begin - text.at)};
}

/* Thoughts that are shown in an answer of Qwen3's. @return what follows them. */
static bytes_t put_thoughts(rendering_t *r, size_t i, bytes_t content)
{
    const char *first = find(content, end_of_thoughts, false), *begin;
    bytes_t thoughts = {"", 0};

    if (first != NULL) {
        thoughts = without_lines((bytes_t){content.at, (size_t)(first - content.at)}, false, true);
        begin = find(thoughts, begin_of_thoughts, true);
        thoughts = begin != NULL ? after(thoughts, begin, strlen(begin_of_thoughts)) : thoughts;
        thoughts = without_lines(thoughts, true, false);
        content = after(content, find(content, end_of_thoughts, true), strlen(end_of_thoughts));
        content = without_lines(content, true, false);
    }
    if (i > r->asked && (i + 1 == r->n || thoughts.n > 0)) {
        put_mark(r, "<think>\n");
        put_content(r, without_lines(thoughts, true, true));
        put_mark(r, "\n</think>\n\n");
        content = without_lines(content, true, false);
    }
    return content;
}

static bytes_t show_thoughts(rendering_t *r, size_t i, bytes_t content)
{
    bool last = r->style->thoughts != AG_THOUGHTS_CUT_ONCE;
    const char *end = find(content, end_of_thoughts, last);
    bytes_t rest = end != NULL ? after(content, end, strlen(end_of_thoughts)) : content;

    switch (r->style->thoughts) {
    case AG_THOUGHTS_CUT:
    case AG_THOUGHTS_CUT_ONCE:
        return rest;
    case AG_THOUGHTS_LAST:
        return i + 1 == r->n ? content : without_lines(rest, true, false);
    case AG_THOUGHTS_SINCE_ASKED:
        return put_thoughts(r, i, content);
    case AG_THOUGHTS_SHOWN:
        break;
    }
    return content;
}

static const char *prompt_of(const rendering_t *r)
{
    const ag_chat_style_t *style = r->style;

    if (style->system_goes == AG_SYSTEM_SWITCHES) {
        return r->thinks ? style->prompt_on : style->prompt_off;
    }
    switch (r->chat->opts.thinking) {
    case AG_THINKING_ON:
        return style->prompt_on;
    case AG_THINKING_OFF:
        return style->prompt_off;
    case AG_THINKING_BY_TEMPLATE:
        break;
    }
    return style->prompt != NULL ? style->prompt : "";
}

/* An answer begins where the beginning of an answer, if the turn begins with it, leaves off; else
 * where its content does. Prompts have nothing in braces. */
static size_t answer_begin(const rendering_t *r, size_t turn, size_t content)
{
    const char *prompt = prompt_of(r);
    size_t n = strlen(prompt), n_turn = r->out->text.n_items - turn;

    if (n == 0) {
        return turn;
    }
    return n <= n_turn && memcmp(AG_ITEMS(&r->out->text, char) + turn, prompt, n) == 0 ? turn + n
                                                                                       : content;
}

static void put_answer(rendering_t *r, size_t i)
{
    const ag_chat_style_t *style = r->style;
    size_t turn = r->out->text.n_items, content;
    bool is_last = i + 1 == r->n && !r->prompt && style->last_end != NULL;
    ag_text_span_t span;
    bytes_t said;

    if (style->system_goes == AG_SYSTEM_SWITCHES) {
        put_mark(r, prompt_of(r));
    } else if (r->asked_last || !(style->flags & AG_CHAT_HEADS_REPLIES)) {
        put_mark(r, style->assistant.before);
    }
    content = r->out->text.n_items;
    said = show_thoughts(r, i, trimmed_if(r, AG_CHAT_TRIMS_ANSWER, &r->messages[i]));
    put_content(r, without_lines(said, style->flags & AG_CHAT_TRIMS_LINES, false));
    if (r->status != AG_OK) {
        return;
    }
    span.begin = answer_begin(r, turn, content);
    put_mark(r, is_last ? style->last_end : style->assistant.end);
    span.end = r->out->text.n_items;
    put_mark(r, style->assistant.behind);
    if (r->status == AG_OK) {
        r->status = ag_array_append(&r->out->answers, &span, 1);
    }
}

/* System turns that go before the whole dialogue. */
static void put_all_systems(rendering_t *r)
{
    const ag_chat_message_t *last = NULL;

    for (size_t i = 0; i < r->n; i++) {
        if (is(&r->messages[i], "system")) {
            if (r->style->system_goes == AG_SYSTEM_JOINED) {
                put_mark(r, last != NULL ? r->style->system.behind : NULL);
                put_content(r, content_of(&r->messages[i]));
            }
            last = &r->messages[i];
        }
    }
    if (last != NULL && r->style->system_goes == AG_SYSTEM_LAST_SAID) {
        put_content(r, content_of(last));
    }
}

/* Take every such word out of a text, in place. */
static void drop(bytes_t *text, char *bytes, const char *word)
{
    size_t n_word = strlen(word), n = 0;

    for (size_t i = 0; i < text->n;) {
        if (text->n - i >= n_word && memcmp(bytes + i, word, n_word) == 0) {
            i += n_word;
        } else {
            bytes[n++] = bytes[i++];
        }
    }
    *text = (bytes_t){bytes, n};
}

static void trim_right(bytes_t *text)
{
    size_t n;

    while ((n = space_at(text->at, text->n, true)) > 0) {
        text->n -= n;
    }
}

/* The system turn of AG_SYSTEM_SWITCHES: what is said without the switches, or a text by them. */
static void put_switching_system(rendering_t *r)
{
    const ag_chat_style_t *style = r->style;
    bytes_t said = is(&r->messages[0], "system") ? content_of(&r->messages[0]) : (bytes_t){"", 0};
    bool alone = find(said, "/system_override", false) != NULL;
    char *bytes = malloc(said.n + 1);

    if (bytes == NULL) {
        r->status = ag_fail_nomem("rendering a dialogue", said.n);
        return;
    }
    if (find(said, "/no_think", false) != NULL) {
        r->thinks = false;
    } else if (find(said, "/think", false) != NULL) {
        r->thinks = true;
    }
    memcpy(bytes, said.at, said.n);
    drop(&said, bytes, "/no_think");
    drop(&said, bytes, "/think");
    trim_right(&said);
    put_mark(r, style->system.before);
    if (alone) {
        drop(&said, bytes, "/system_override");
        trim_right(&said);
        put_content(r, said);
        put_mark(r, "<|im_end|>\n");
    } else {
        put_mark(r, style->system.end);
        put_content(r, said);
        put_mark(r, said.n > 0 ? style->system.behind : r->thinks ? "{text0}" : "{text1}");
    }
    free(bytes);
}

/* Is the system turn at the beginning put into this user turn? */
static bool takes_system(const rendering_t *r, size_t i)
{
    return is(&r->messages[0], "system") &&
           ((r->style->system_goes == AG_SYSTEM_IN_FIRST && i == 1) ||
            (r->style->system_goes == AG_SYSTEM_IN_LAST && i + 1 == r->n));
}

static void put_dialogue(rendering_t *r)
{
    const ag_chat_style_t *style = r->style;
    bool turns = style->system_goes == AG_SYSTEM_TURN || style->system_goes == AG_SYSTEM_FIRST;
    bool prompts = r->prompt || (style->flags & AG_CHAT_ALWAYS_PROMPTS);

    put_mark(r, style->begin);
    if (style->no_system != NULL && !is(&r->messages[0], "system") &&
        (r->chat->has_text || strstr(style->no_system, "{text") == NULL)) {
        put_mark(r, style->no_system);
    }
    put_all_systems(r);
    if (style->system_goes == AG_SYSTEM_SWITCHES) {
        put_switching_system(r);
    }
    for (size_t i = 0; i < r->n; i++) {
        if (is(&r->messages[i], "user")) {
            put_user(r, i, takes_system(r, i) ? &r->messages[0] : NULL);
            r->asked_last = true;
        } else if (is(&r->messages[i], "assistant")) {
            put_answer(r, i);
            r->asked_last = false;
        } else if (turns) {
            put_system(r, i);
        }
    }
    if (!prompts) {
        put_mark(r, style->close);
    } else if (!(style->flags & (r->asked_last ? AG_CHAT_ASKS : AG_CHAT_HEADS_REPLIES))) {
        put_mark(r, prompt_of(r));
    }
}

static ag_status_t check_role(const rendering_t *r, size_t i)
{
    const ag_chat_message_t *message = &r->messages[i];
    const ag_chat_style_t *style = r->style;
    ag_chat_system_t goes = style->system_goes;
    size_t first = is(&r->messages[0], "system") ? 1 : 0;

    if (!is(message, "system") && !is(message, "user") && !is(message, "assistant")) {
        return ag_fail(AG_ERR_INVALID,
                       "message %zu has the role \"%s\" (known: system, user, assistant)", i,
                       ag_quote(message->role, strnlen(message->role, 64)).text);
    }
    if (is(message, "system") && goes == AG_SYSTEM_NONE) {
        return ag_fail(AG_ERR_INVALID,
                       "message %zu is a system turn, which the chat template %s does not have", i,
                       style->name);
    }
    if (is(message, "system") && i > 0 &&
        (goes == AG_SYSTEM_FIRST || goes == AG_SYSTEM_IN_FIRST || goes == AG_SYSTEM_IN_LAST ||
         goes == AG_SYSTEM_SWITCHES)) {
        return ag_fail(AG_ERR_INVALID,
                       "message %zu is a system turn, which the chat template %s has at the "
                       "beginning only",
                       i, style->name);
    }
    if ((style->flags & AG_CHAT_ALTERNATES) && i >= first &&
        is(message, "user") != ((i - first) % 2 == 0)) {
        return ag_fail(AG_ERR_INVALID,
                       "message %zu is of the %s, but by the chat template %s user and assistant "
                       "take turns, and the user begins",
                       i, message->role, style->name);
    }
    return AG_OK;
}

static bool is_tool_response(bytes_t content)
{
    static const char begin[] = "<tool_response>", end[] = "</tool_response>";

    return content.n >= strlen(end) && memcmp(content.at, begin, strlen(begin)) == 0 &&
           memcmp(content.at + content.n - strlen(end), end, strlen(end)) == 0;
}

ag_status_t ag_chat_render(const ag_chat_t *chat, const ag_chat_message_t *messages,
                           size_t n_messages, bool prompt, ag_chat_text_t *text)
{
    rendering_t r = {.chat = chat,
                     .style = chat->style,
                     .messages = messages,
                     .n = n_messages,
                     .asked = n_messages - 1,
                     .prompt = prompt,
                     .thinks = chat->opts.thinking != AG_THINKING_OFF,
                     .out = text};
    bool found = false;

    text->text.n_items = text->answers.n_items = text->contents.n_items = 0;
    if (n_messages == 0) {
        return ag_fail(AG_ERR_INVALID, "a dialogue without a message");
    }
    for (size_t i = 0; i < n_messages; i++) {
        ag_status_t status = check_role(&r, i);

        if (status != AG_OK) {
            return status;
        }
    }
    for (size_t i = n_messages; i > 0 && !found; i--) {
        found = is(&messages[i - 1], "user") && !is_tool_response(content_of(&messages[i - 1]));
        r.asked = found ? i - 1 : r.asked;
    }
    put_dialogue(&r);
    return r.status;
}

ag_status_t ag_chat_encode(const ag_tokenizer_t *tokenizer, const ag_chat_text_t *text,
                           size_t begin, size_t end, unsigned flags, ag_array_t *ids,
                           uint64_t *most_bytes_p)
{
    const ag_text_span_t *contents = text->contents.items;
    size_t first = 0, n = 0;

    while (first < text->contents.n_items && contents[first].end <= begin) {
        first++;
    }
    while (first + n < text->contents.n_items && contents[first + n].begin < end) {
        n++;
    }
    return ag_tokenizer_encode_around(
        tokenizer, AG_ITEMS(&text->text, char) + begin, end - begin, flags | AG_TOKEN_SPECIAL,
        &(ag_text_literals_t){.spans = contents + first, .n_spans = n, .origin = begin}, ids,
        most_bytes_p);
}
