/*
 * A template is Jinja; we do not run it, we recognise it. Its text is brought to one form (no space
 * that Jinja would drop, 'a' + 'b' joined, x['role'] as x.role) and compared with the forms we
 * know.
 */
#include "runtime/text/chat.h"

#include <stdlib.h>
#include <string.h>

/* \x01 stands for any text within a literal: the default system turn. */
static const char *const forms[] = {
    /* chatml with a default system turn: SmolLM2, Qwen2 */
    "{%formessageinmessages%}{%ifloop.firstandmessages[0].role!='system'%}"
    "{{'<|im_start|>system\\n\x01<|im_end|>\\n'}}{%endif%}"
    "{{'<|im_start|>'+message.role+'\\n'+message.content+'<|im_end|>\\n'}}{%endfor%}"
    "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}",
    /* chatml */
    "{%formessageinmessages%}"
    "{{'<|im_start|>'+message.role+'\\n'+message.content+'<|im_end|>\\n'}}{%endfor%}"
    "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}",
};

enum { N_FORMS = sizeof(forms) / sizeof(forms[0]) };

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A string literal, its quotes made single. @return where it ends, NULL where it does not. */
static const char *copy_literal(const char *at, ag_array_t *form, ag_status_t *status)
{
    char quote = *at++;

    *status = ag_array_append(form, "'", 1);
    for (; *at != '\0' && *at != quote && *status == AG_OK; at++) {
        const char *escape = at[0] == '\n' ? "\\n" : NULL;

        if (at[0] == '\\' && at[1] != '\0') {
            *status = ag_array_append(form, at, 2);
            at++;
        } else {
            *status = ag_array_append(form, escape != NULL ? escape : at, escape != NULL ? 2 : 1);
        }
    }
    if (*at != quote || *status != AG_OK) {
        return NULL;
    }
    *status = ag_array_append(form, "'", 1);
    return at + 1;
}

/* A tag from "{%" or "{{" to its end. @return where it ends. */
static const char *copy_tag(const char *at, ag_array_t *form, bool *trims_left, bool *trims_right,
                            ag_status_t *status)
{
    char close = at[1] == '{' ? '}' : '%';

    *status = ag_array_append(form, at, 2);
    *trims_left = at[2] == '-';
    at += 2 + *trims_left;
    while (*at != '\0' && *status == AG_OK) {
        bool ends = at[0] == close && at[1] == '}';

        *trims_right = at[0] == '-' && at[1] == close && at[2] == '}';
        if (ends || *trims_right) {
            at += *trims_right;
            *status = ag_array_append(form, at, 2);
            return at + 2;
        }
        if (*at == '\'' || *at == '"') {
            at = copy_literal(at, form, status);
            if (at == NULL) {
                return NULL;
            }
            continue;
        }
        if (!is_space(*at)) {
            *status = ag_array_append(form, at, 1);
        }
        at++;
    }
    return NULL;
}

/* Text between tags must be space that Jinja drops: beside a '-', or a line feed after a block. */
static const char *skip_between(const char *at, bool after_block, bool trimmed, bool *good)
{
    const char *begin = at;

    while (is_space(*at)) {
        at++;
    }
    *good = at == begin || trimmed || (*at == '{' && at[2] == '-') ||
            (after_block && *begin == '\n' && at == begin + 1) || *at == '\0';
    *good &= *at == '{' || *at == '\0';
    return at;
}

static void replace_all(char *text, const char *from, const char *to)
{
    size_t n_from = strlen(from), n_to = strlen(to);

    for (char *at = strstr(text, from); at != NULL; at = strstr(at + n_to, from)) {
        memcpy(at, to, n_to);
        memmove(at + n_to, at + n_from, strlen(at + n_from) + 1);
    }
}

/* The template in our form, NUL-terminated; false where it is not of a kind we can bring to it. */
static bool normalise(const char *template, ag_array_t *form)
{
    bool trims_left, trims_right = false, after_block = false, good = true;
    ag_status_t status = AG_OK;
    const char *at = template;

    while (*at != '\0' && status == AG_OK) {
        at = skip_between(at, after_block, trims_right || at == template, &good);
        if (!good || *at == '\0') {
            break;
        }
        if (at[1] != '%' && at[1] != '{') {
            return false;
        }
        after_block = at[1] == '%';
        at = copy_tag(at, form, &trims_left, &trims_right, &status);
        if (at == NULL) {
            return false;
        }
    }
    if (!good || status != AG_OK || ag_array_append(form, "", 1) != AG_OK) {
        return false;
    }
    replace_all(form->items, "['role']", ".role");
    replace_all(form->items, "['content']", ".content");
    replace_all(form->items, "'+'", "");
    replace_all(form->items, "}}{{", "+");
    replace_all(form->items, "'+'", "");
    return true;
}

/* Does text have this form? The text that \x01 stands for is a literal's part, without quotes. */
static bool matches(const char *text, const char *form, const char **wild_p, size_t *n_wild_p)
{
    const char *wild = strchr(form, '\x01');
    size_t n_before = wild != NULL ? (size_t)(wild - form) : 0, n_after, n_text = strlen(text);

    *n_wild_p = 0;
    if (wild == NULL) {
        return strcmp(text, form) == 0;
    }
    n_after = strlen(wild + 1);
    if (n_text < n_before + n_after || memcmp(text, form, n_before) != 0 ||
        strcmp(text + n_text - n_after, wild + 1) != 0) {
        return false;
    }
    *wild_p = text + n_before;
    *n_wild_p = n_text - n_before - n_after;
    return memchr(*wild_p, '\'', *n_wild_p) == NULL;
}

/* A literal's text with its escapes resolved. */
static ag_status_t append_literal(const char *literal, size_t n_bytes, ag_array_t *text)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_bytes && status == AG_OK; i++) {
        char c = literal[i];

        if (c == '\\' && i + 1 < n_bytes) {
            c = literal[++i];
            c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        }
        status = ag_array_append(text, &c, 1);
    }
    return status;
}

static ag_status_t append_text(ag_array_t *text, const char *more)
{
    return ag_array_append(text, more, strlen(more));
}

static ag_status_t render(const char *wild, size_t n_wild, bool has_default,
                          const ag_chat_message_t *messages, size_t n_messages, ag_array_t *text)
{
    ag_status_t status = AG_OK;

#define THEN(call) status = status == AG_OK ? (call) : status
    for (size_t i = 0; i < n_messages && status == AG_OK; i++) {
        if (i == 0 && has_default && strcmp(messages[0].role, "system") != 0) {
            status = append_text(text, "<|im_start|>system\n");
            THEN(append_literal(wild, n_wild, text));
            THEN(append_text(text, "<|im_end|>\n"));
        }
        THEN(append_text(text, "<|im_start|>"));
        THEN(append_text(text, messages[i].role));
        THEN(append_text(text, "\n"));
        THEN(ag_array_append(text, messages[i].content, messages[i].content_bytes));
        THEN(append_text(text, "<|im_end|>\n"));
    }
    THEN(append_text(text, "<|im_start|>assistant\n"));
    THEN(ag_array_append(text, "", 1));
#undef THEN
    return status;
}

ag_status_t ag_chat_render(const ag_tokenizer_t *tokenizer, const ag_chat_message_t *messages,
                           size_t n_messages, char **text_p, size_t *n_bytes_p)
{
    const char *template = ag_tokenizer_chat_template(tokenizer);
    ag_array_t form = AG_ARRAY(char), text = AG_ARRAY(char);
    ag_status_t status = AG_PENDING;

    if (template == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model has no chat template: give the prompt as text, "
                       "without --chat");
    }
    for (int i = 0; i < N_FORMS && status == AG_PENDING; i++) {
        const char *wild = NULL;
        size_t n_wild;

        form.n_items = 0;
        if (normalise(template, &form) && matches(form.items, forms[i], &wild, &n_wild)) {
            status = render(wild, n_wild, wild != NULL, messages, n_messages, &text);
        }
    }
    ag_array_fini(&form);
    if (status == AG_OK) {
        *text_p = text.items;
        *n_bytes_p = text.n_items - 1;
        return AG_OK;
    }
    ag_array_fini(&text);
    return status == AG_PENDING ? ag_fail(AG_ERR_UNSUPPORTED,
                                          "the model's chat template is not known (known: chatml): "
                                          "give the prompt as text, with the template's marks, "
                                          "without --chat")
                                : status;
}
