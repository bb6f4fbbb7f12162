/*
 * A template is a program in Jinja; we do not run it, we recognise it: its text is brought to one
 * form (template.c) and compared with the forms we know.
 */
#include "runtime/text/chat.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/text/template_priv.h"

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

static ag_status_t append_text(ag_array_t *text, const char *more)
{
    return ag_array_append(text, more, strlen(more));
}

static ag_status_t append_turn(ag_array_t *text, const char *role, const char *content,
                               size_t content_bytes)
{
    ag_status_t status = append_text(text, "<|im_start|>");

    if (status == AG_OK) {
        status = append_text(text, role);
    }
    if (status == AG_OK) {
        status = append_text(text, "\n");
    }
    if (status == AG_OK) {
        status = ag_array_append(text, content, content_bytes);
    }
    return status == AG_OK ? append_text(text, "<|im_end|>\n") : status;
}

static bool is_role(const char *role)
{
    return strcmp(role, "system") == 0 || strcmp(role, "user") == 0 ||
           strcmp(role, "assistant") == 0;
}

/* @param system  the default system turn as the form has it; NULL: none. */
static ag_status_t render(const char *system, size_t n_system, const ag_chat_message_t *messages,
                          size_t n_messages, ag_array_t *text)
{
    ag_array_t plain = AG_ARRAY(char);
    ag_status_t status = AG_OK;

    if (system != NULL && strcmp(messages[0].role, "system") != 0) {
        status = ag_template_unescape(system, n_system, &plain);
        if (status == AG_OK) {
            status = append_turn(text, "system", plain.items, plain.n_items);
        }
        ag_array_fini(&plain);
    }
    for (size_t i = 0; i < n_messages && status == AG_OK; i++) {
        status =
            append_turn(text, messages[i].role, messages[i].content, messages[i].content_bytes);
    }
    if (status == AG_OK) {
        status = append_text(text, "<|im_start|>assistant\n");
    }
    return status == AG_OK ? ag_array_append(text, "", 1) : status;
}

static ag_status_t check_messages(const ag_chat_message_t *messages, size_t n_messages)
{
    if (n_messages == 0) {
        return ag_fail(AG_ERR_INVALID, "a dialogue without a message");
    }
    for (size_t i = 0; i < n_messages; i++) {
        if (!is_role(messages[i].role)) {
            return ag_fail(AG_ERR_INVALID,
                           "message %zu has the role \"%.64s\" (known: system, user, assistant)", i,
                           messages[i].role);
        }
    }
    return AG_OK;
}

ag_status_t ag_chat_render(const ag_tokenizer_t *tokenizer, const ag_chat_message_t *messages,
                           size_t n_messages, char **text_p, size_t *n_bytes_p)
{
    const char *template = ag_tokenizer_chat_template(tokenizer), *form, *system;
    ag_array_t formed = AG_ARRAY(char), text = AG_ARRAY(char);
    ag_status_t status = check_messages(messages, n_messages);
    size_t n_system;
    bool known = false;

    if (status != AG_OK) {
        return status;
    }
    if (template == NULL) {
        return ag_fail(AG_ERR_UNSUPPORTED,
                       "the model has no chat template: give the prompt as text, without --chat");
    }
    status = ag_template_form(template, &formed);
    form = formed.items;
    if (status == AG_OK && strncmp(form, guard, strlen(guard)) == 0) {
        form += strlen(guard);
    }
    for (int i = 0; i < N_FORMS && status == AG_OK && !known; i++) {
        known = ag_template_matches(form, forms[i], &system, &n_system);
    }
    if (known) {
        status = render(system, n_system, messages, n_messages, &text);
    } else if (status == AG_OK) {
        status = ag_fail(AG_ERR_UNSUPPORTED, "the model's chat template is not known (known: "
                                             "chatml): give the prompt as text, with the "
                                             "template's marks, without --chat");
    }
    ag_array_fini(&formed);
    if (status != AG_OK) {
        ag_array_fini(&text);
        return status;
    }
    *text_p = text.items;
    *n_bytes_p = text.n_items - 1;
    return AG_OK;
}
