/*
 * A template is a program in Jinja; we do not run it, we recognise it: its text is brought to one
 * form (template.c) and compared with the forms we know (chat_forms.c).
 */
#include "runtime/text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/line.h"
#include "runtime/base/log.h"
#include "runtime/text/chat_priv.h"
#include "runtime/text/tokenizer_priv.h"

/* We always say whether to add the prompt, so this does nothing. */
static const char guard[] = "{%if not add_generation_prompt is defined%}"
                            "{%set add_generation_prompt=false%}{%endif%}";

ag_chat_names_t ag_chat_names(void)
{
    ag_chat_names_t names = {""};

    for (int i = 0; i < AG_N_CHAT_STYLES; i++) {
        ag_line_append(names.text, sizeof(names.text), "%s%s", i > 0 ? ", " : "",
                       ag_chat_styles[i].name);
    }
    return names;
}

static ag_status_t keep_texts(ag_chat_t *chat, const ag_template_text_t found[], size_t n_found)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_found && status == AG_OK; i++) {
        status = ag_template_unescape(found[i].bytes, found[i].n_bytes, &chat->texts[i]);
    }
    chat->has_text = n_found > 0;
    return status;
}

/* The last known template whose sign stands in this one: there the more special come later. */
static const ag_chat_style_t *find_like(const char *template)
{
    const ag_chat_style_t *like = NULL;

    for (int i = 0; i < AG_N_CHAT_STYLES; i++) {
        const char *sign = ag_chat_styles[i].sign;

        like = sign != NULL && strstr(template, sign) != NULL ? &ag_chat_styles[i] : like;
    }
    return like;
}

static ag_status_t refuse(const char *template)
{
    const ag_chat_style_t *like = find_like(template);

    return ag_fail(AG_ERR_UNSUPPORTED,
                   "the model's chat template is none of those that are known%s%s: where one of "
                   "them renders the same, name it with --chat-template (known: %s)",
                   like != NULL ? ", and most like " : "", like != NULL ? like->name : "",
                   ag_chat_names().text);
}

/* Find the template's form, and what it has to say. */
static ag_status_t recognise(ag_chat_t *chat, const char *template)
{
    ag_array_t formed = AG_ARRAY(char);
    ag_template_text_t found[AG_FORM_MOST_TEXTS];
    ag_status_t status = ag_template_form(template, &formed);
    const char *form = formed.items;
    size_t n_guard = strlen(guard), n_found;

    for (size_t i = 0; i < ag_n_chat_forms && status == AG_OK && chat->style == NULL; i++) {
        const ag_chat_form_t *known = &ag_chat_forms[i];

        if (ag_template_matches(form, known->form, found, &n_found) ||
            (strncmp(form, guard, n_guard) == 0 &&
             ag_template_matches(form + n_guard, known->form, found, &n_found))) {
            chat->style = &ag_chat_styles[known->style];
            status = keep_texts(chat, found, n_found);
        }
    }
    ag_array_fini(&formed);
    return status == AG_OK && chat->style == NULL ? refuse(template) : status;
}

static ag_status_t keep_named_texts(ag_chat_t *chat)
{
    const char *const texts[] = {chat->style->text, chat->style->other_text};
    ag_status_t status = AG_OK;

    for (int i = 0; i < 2 && status == AG_OK && texts[i] != NULL; i++) {
        status = ag_array_append(&chat->texts[i], texts[i], strlen(texts[i]));
    }
    return status;
}

static ag_status_t find_named(ag_chat_t *chat, const char *name)
{
    for (int i = 0; i < AG_N_CHAT_STYLES; i++) {
        const ag_chat_style_t *style = &ag_chat_styles[i];

        if (strcmp(style->name, name) == 0) {
            chat->style = style;
            chat->has_text = style->text != NULL;
            return keep_named_texts(chat);
        }
    }
    return ag_fail(AG_ERR_INVALID, "--chat-template: \"%s\" is not known (known: %s)",
                   ag_quote(name, strnlen(name, 64)).text, ag_chat_names().text);
}

static ag_status_t find_style(ag_chat_t *chat, const ag_chat_opts_t *opts)
{
    const char *template = ag_tokenizer_chat_template(chat->tokenizer);
    ag_status_t status;

    if (opts->name != NULL) {
        status = find_named(chat, opts->name);
        if (status == AG_OK && ag_chat_end(chat) < 0) {
            ag_log(AG_LOG_WARNING,
                   "the tokenizer has no token that ends an answer of the chat template %s: was "
                   "the model trained with it?",
                   opts->name);
        }
    } else if (template == NULL) {
        status = ag_fail(AG_ERR_UNSUPPORTED,
                         "the model has no chat template: name the one that it was trained with by "
                         "--chat-template (known: %s)",
                         ag_chat_names().text);
    } else {
        status = recognise(chat, template);
    }
    if (status == AG_OK && opts->thinking != AG_THINKING_BY_TEMPLATE &&
        chat->style->prompt_off == NULL) {
        status = ag_fail(AG_ERR_INVALID, "the chat template %s does not switch thinking",
                         chat->style->name);
    }
    if (status == AG_OK && opts->effort != NULL &&
        (chat->style->begin == NULL || strstr(chat->style->begin, "{effort}") == NULL)) {
        status = ag_fail(AG_ERR_INVALID, "the chat template %s does not say how much to reason",
                         chat->style->name);
    }
    return status;
}

ag_status_t ag_chat_open(const ag_tokenizer_t *tokenizer, const ag_chat_opts_t *opts,
                         ag_chat_t **chat_p)
{
    static const ag_chat_opts_t none;
    ag_chat_t *chat = calloc(1, sizeof(*chat));
    ag_status_t status;

    if (chat == NULL) {
        return ag_fail_nomem("reading a chat template", sizeof(*chat));
    }
    for (int i = 0; i < AG_FORM_MOST_TEXTS; i++) {
        chat->texts[i] = AG_ARRAY(char);
    }
    chat->tokenizer = tokenizer;
    chat->opts = opts != NULL ? *opts : none;
    chat->opts.name = NULL;
    status = find_style(chat, opts != NULL ? opts : &none);
    if (status != AG_OK) {
        ag_chat_close(chat);
        return status;
    }
    *chat_p = chat;
    return AG_OK;
}

void ag_chat_close(ag_chat_t *chat)
{
    if (chat != NULL) {
        for (int i = 0; i < AG_FORM_MOST_TEXTS; i++) {
            ag_array_fini(&chat->texts[i]);
        }
        free(chat);
    }
}

const char *ag_chat_name(const ag_chat_t *chat)
{
    return chat->style->name;
}

int32_t ag_chat_end(const ag_chat_t *chat)
{
    const ag_chat_style_t *style = chat->style;
    const char *mark = style->last_end != NULL ? style->last_end : style->assistant.end;
    uint32_t id;

    mark += strspn(mark, " ");
    if (strcmp(mark, "{eos}") == 0) {
        return chat->tokenizer->named_eos;
    }
    id = ag_text_id(chat->tokenizer, mark, strlen(mark));
    return id != AG_NO_ID && (ag_piece_at(chat->tokenizer, id)->flags & AG_PIECE_SPECIAL)
               ? (int32_t)id
               : -1;
}

uint64_t ag_chat_opts_fingerprint(const ag_chat_opts_t *opts)
{
    const char *name = opts->name != NULL ? opts->name : "";
    const char *effort = opts->effort != NULL ? opts->effort : "";
    const unsigned words[] = {opts->thinking, opts->date.year, opts->date.month, opts->date.day};

    uint64_t hash = ag_hash_bytes(AG_HASH_SEED, words, sizeof(words));

    hash = ag_hash_bytes(hash, name, strlen(name) + 1);
    return ag_hash_bytes(hash, effort, strlen(effort));
}
