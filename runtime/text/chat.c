/*
 * A template is a program in Jinja; we do not run it, we recognise it: its text is brought to one
 * form (template.c) and compared with the forms we know.
 */
#include "runtime/text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/text/template_priv.h"
#include "runtime/text/tokenizer_priv.h"

#define DEFAULT "{{'<|im_start|>system\\n" AG_FORM_TEXT "<|im_end|>\\n'}}"
#define TURN "{{'<|im_start|>'+message.role+'\\n'+message.content+'<|im_end|>\\n'}}"
#define PROMPT "{%if add_generation_prompt%}{{'<|im_start|>assistant\\n'}}{%endif%}"

/* All render alike: the default system turn, if the form has one and the dialogue begins without a
 * system turn, then every turn, then the beginning of the answer. */
static const char *const forms[] = {
    /* chatml */
    "{%for message in messages%}" TURN "{%endfor%}" PROMPT,
    /* with a default system turn: SmolLM2, Qwen2 */
    "{%for message in messages%}{%if loop.first and messages[0].role!='system'%}" DEFAULT
    "{%endif%}" TURN "{%endfor%}" PROMPT,
    /* with tools, of which there are none: Qwen2.5 */
    "{%if tools%}" AG_FORM_DEAD "{%else%}{%if messages[0].role=='system'%}"
    "{{'<|im_start|>system\\n'+messages[0].content+'<|im_end|>\\n'}}{%else%}" DEFAULT
    "{%endif%}{%endif%}{%for message in messages%}{%if(message.role=='user')or"
    "(message.role=='system'and not loop.first)or"
    "(message.role=='assistant'and not message.tool_calls)%}" TURN
    "{%elif message.role=='assistant'%}" AG_FORM_DEAD "{%elif message.role=='tool'%}" AG_FORM_DEAD
    "{%endif%}{%endfor%}" PROMPT,
};

/* We always say whether to add the prompt, so this does nothing. */
static const char guard[] = "{%if not add_generation_prompt is defined%}"
                            "{%set add_generation_prompt=false%}{%endif%}";

enum { N_FORMS = sizeof(forms) / sizeof(forms[0]) };

struct ag_chat {
    ag_array_t system; /* char: what the default system turn says */
    bool has_system;
};

static ag_status_t append_text(ag_array_t *text, const char *more)
{
    return ag_array_append(text, more, strlen(more));
}

/* @param span_p  out: the content and the mark that ends it. */
static ag_status_t append_turn(ag_array_t *text, const char *role, const char *content,
                               size_t content_bytes, ag_chat_span_t *span_p)
{
    ag_status_t status = append_text(text, "<|im_start|>");

    if (status == AG_OK) {
        status = append_text(text, role);
    }
    if (status == AG_OK) {
        status = append_text(text, "\n");
    }
    span_p->begin = text->n_items;
    if (status == AG_OK) {
        status = ag_array_append(text, content, content_bytes);
    }
    if (status == AG_OK) {
        status = append_text(text, "<|im_end|>");
    }
    span_p->end = text->n_items;
    return status == AG_OK ? append_text(text, "\n") : status;
}

static bool is_role(const char *role)
{
    return strcmp(role, "system") == 0 || strcmp(role, "user") == 0 ||
           strcmp(role, "assistant") == 0;
}

static ag_status_t check_messages(const ag_chat_message_t *messages, size_t n_messages)
{
    if (n_messages == 0) {
        return ag_fail(AG_ERR_INVALID, "a dialogue without a message");
    }
    for (size_t i = 0; i < n_messages; i++) {
        if (!is_role(messages[i].role)) {
            return ag_fail(AG_ERR_INVALID,
                           "message %zu has the role \"%s\" (known: system, user, assistant)", i,
                           ag_quote(messages[i].role, strnlen(messages[i].role, 64)).text);
        }
    }
    return AG_OK;
}

ag_status_t ag_chat_dialogue(const ag_chat_t *chat, const ag_chat_message_t *messages,
                             size_t n_messages, ag_array_t *text, ag_array_t *answers)
{
    ag_status_t status = check_messages(messages, n_messages);
    ag_chat_span_t span;

    if (status == AG_OK && chat->has_system && strcmp(messages[0].role, "system") != 0) {
        status = append_turn(text, "system", chat->system.items, chat->system.n_items, &span);
    }
    for (size_t i = 0; i < n_messages && status == AG_OK; i++) {
        status = append_turn(text, messages[i].role, messages[i].content, messages[i].content_bytes,
                             &span);
        if (status == AG_OK && strcmp(messages[i].role, "assistant") == 0) {
            status = ag_array_append(answers, &span, 1);
        }
    }
    return status;
}

/* Find the template's form, and what it has to say. */
static ag_status_t recognise(ag_chat_t *chat, const char *template)
{
    ag_array_t formed = AG_ARRAY(char);
    ag_status_t status = ag_template_form(template, &formed);
    const char *form = formed.items, *system = NULL;
    size_t n_system = 0;
    bool known = false;

    if (status == AG_OK && strncmp(form, guard, strlen(guard)) == 0) {
        form += strlen(guard);
    }
    for (int i = 0; i < N_FORMS && status == AG_OK && !known; i++) {
        known = ag_template_matches(form, forms[i], &system, &n_system);
    }
    if (status == AG_OK && !known) {
        status =
            ag_fail(AG_ERR_UNSUPPORTED, "the model's chat template is not known (known: chatml)");
    }
    if (status == AG_OK && system != NULL) {
        chat->has_system = true;
        status = ag_template_unescape(system, n_system, &chat->system);
    }
    ag_array_fini(&formed);
    return status;
}

ag_status_t ag_chat_open(const ag_tokenizer_t *tokenizer, ag_chat_t **chat_p)
{
    const char *template = ag_tokenizer_chat_template(tokenizer);
    ag_chat_t *chat;
    ag_status_t status;

    if (template == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED, "the model has no chat template");
    }
    chat = calloc(1, sizeof(*chat));
    if (chat == NULL) {
        return ag_fail_nomem("reading a chat template", sizeof(*chat));
    }
    chat->system = AG_ARRAY(char);
    status = recognise(chat, template);
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
        ag_array_fini(&chat->system);
        free(chat);
    }
}

ag_status_t ag_chat_render(const ag_tokenizer_t *tokenizer, const ag_chat_message_t *messages,
                           size_t n_messages, char **text_p, size_t *n_bytes_p)
{
    ag_array_t text = AG_ARRAY(char), answers = AG_ARRAY(ag_chat_span_t);
    ag_status_t status = check_messages(messages, n_messages);
    ag_chat_t *chat = NULL;

    if (status != AG_OK) {
        return status;
    }
    status = ag_chat_open(tokenizer, &chat);
    if (status == AG_ERR_UNSUPPORTED) {
        status = ag_fail(status,
                         "%s: give the prompt as text, with the marks that the model knows, "
                         "without --chat",
                         ag_error());
    }
    if (status == AG_OK) {
        status = ag_chat_dialogue(chat, messages, n_messages, &text, &answers);
    }
    if (status == AG_OK) {
        status = append_text(&text, "<|im_start|>assistant\n");
    }
    if (status == AG_OK) {
        status = ag_array_append(&text, "", 1);
    }
    ag_chat_close(chat);
    ag_array_fini(&answers);
    if (status != AG_OK) {
        ag_array_fini(&text);
        return status;
    }
    *text_p = text.items;
    *n_bytes_p = text.n_items - 1;
    return AG_OK;
}
