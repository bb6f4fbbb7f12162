/* Chat templates: what is recognised, how it is rendered, and that all else is refused. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"
#include "runtime/base/json.h"
#include "runtime/text/chat.h"

static const ag_chat_message_t hello[] = {{"user", "Hello", 5}};

/* A model whose template stands in chat_template.jinja, as it is; NULL: it has none. */
static void open_model(made_t *made, const char *template)
{
    folder_begin(made);
    folder_write(made, "tokenizer.json",
                 "{'model':{'vocab':{},'merges':[]}," PRE_BYTES
                 ",'added_tokens':[{'id':0,'content':'<s>','special':true},"
                 "{'id':1,'content':'</s>','special':true}]}");
    folder_write(made, "tokenizer_config.json", "{'bos_token':'<s>','eos_token':'</s>'}");
    if (template != NULL) {
        file_write(made, "chat_template.jinja", template, strlen(template));
    }
    cr_assert_eq(folder_open(made), AG_OK, "%s", ag_error());
}

static ag_status_t render_by(const char *template, const ag_chat_opts_t *opts,
                             const ag_chat_message_t *messages, size_t n, char **text_p)
{
    made_t made;
    ag_chat_text_t text;
    ag_chat_t *chat = NULL;
    ag_status_t status;

    *text_p = NULL;
    open_model(&made, template);
    ag_chat_text_init(&text);
    status = ag_chat_open(made.tokenizer, opts, &chat);
    if (status == AG_OK) {
        status = ag_chat_render(chat, messages, n, true, &text);
    }
    if (status == AG_OK) {
        cr_assert_eq(ag_array_append(&text.text, "", 1), AG_OK);
        *text_p = strdup(text.text.items);
    }
    ag_chat_close(chat);
    ag_chat_text_fini(&text);
    made_close(&made);
    return status;
}

static ag_status_t render(const char *template, const ag_chat_message_t *messages, size_t n,
                          char **text_p)
{
    return render_by(template, NULL, messages, n, text_p);
}

static void expect_rendered(const char *template, const ag_chat_message_t *messages, size_t n,
                            const char *expected)
{
    char *text;

    cr_assert_eq(render(template, messages, n, &text), AG_OK, "%s: %s", template, ag_error());
    cr_expect_str_eq(text, expected, "\"%s\" is rendered as \"%s\"", template, text);
    free(text);
}

#define LOOP "{% for message in messages %}"
#define TURN                                                                                       \
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
#define PROMPT "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define CHATML LOOP TURN "{% endfor %}" PROMPT
#define SYSTEM                                                                                     \
    "{% if loop.first and messages[0]['role'] != 'system' %}"                                      \
    "{{ '<|im_start|>system\\nBe \\'kind\\'.\\n<|im_end|>\\n' }}{% endif %}"
#define ANSWER "<|im_start|>assistant\n"
#define USER "<|im_start|>user\nHello<|im_end|>\n"

Test(chat, chatml_in_its_spellings)
{
    static const char *const templates[] = {
        CHATML,
        LOOP "\n  {{- \"<|im_start|>\" + message.role + \"\\n\" + message.content + "
             "\"<|im_end|>\\n\" -}}\n{% endfor %}\n" PROMPT "\n",
        LOOP "{{'<|im_start|>'}}{{message['role']}}{{'\n'}}{{message[\"content\"]}}"
             "{{'<|im_end|>\r\n'}}{%endfor%}" PROMPT,
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
        "{% endif %}" CHATML,
    };

    for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
        expect_rendered(templates[i], hello, 1, USER ANSWER);
    }
}

Test(chat, a_default_system_turn_comes_first_unless_there_is_one)
{
    static const ag_chat_message_t dialogue[] = {
        {"system", "Hi", 2}, {"user", "a", 1}, {"assistant", "b", 1}, {"user", "c", 1}};

    expect_rendered(LOOP SYSTEM TURN "{% endfor %}" PROMPT, hello, 1,
                    "<|im_start|>system\nBe 'kind'.\n<|im_end|>\n" USER ANSWER);
    expect_rendered(LOOP SYSTEM TURN "{% endfor %}" PROMPT, dialogue, 4,
                    "<|im_start|>system\nHi<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
                    "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n" ANSWER);
}

/* The messages of one of Jinja2's renderings. */
static size_t read_messages(const ag_json_t *list, ag_chat_message_t messages[8])
{
    size_t n = ag_json_size(list);

    cr_assert(n > 0 && n <= 8);
    for (size_t i = 0; i < n; i++) {
        const ag_json_t *message = ag_json_at(list, i);

        messages[i].role = ag_json_string(ag_json_get(message, "role"), NULL);
        messages[i].content =
            ag_json_string(ag_json_get(message, "content"), &messages[i].content_bytes);
    }
    return n;
}

/* The same text, the same answers where they are told; contents are what messages say. */
static void check_case(const ag_chat_t *chat, const ag_json_t *expected, const char *title)
{
    ag_chat_message_t messages[8] = {0};
    size_t n = read_messages(ag_json_get(expected, "messages"), messages), n_rendered, last = 0;
    const char *rendered = ag_json_string(ag_json_get(expected, "rendered"), &n_rendered);
    const ag_json_t *spans = ag_json_get(expected, "answers");
    ag_chat_text_t text;

    ag_chat_text_init(&text);
    cr_assert_eq(ag_chat_render(chat, messages, n,
                                ag_json_bool(ag_json_get(expected, "prompt"), false), &text),
                 AG_OK, "%s: %s", title, ag_error());
    cr_expect(text.text.n_items == n_rendered && memcmp(text.text.items, rendered, n_rendered) == 0,
              "%s: \"%.*s\", not \"%s\"", title, (int)text.text.n_items, AG_ITEMS(&text.text, char),
              rendered);
    for (size_t i = 0; i < text.contents.n_items; i++) {
        ag_text_span_t span = AG_ITEMS(&text.contents, ag_text_span_t)[i];

        cr_expect(span.begin >= last && span.begin < span.end && span.end <= text.text.n_items);
        last = span.end;
    }
    if (spans != NULL) {
        cr_assert_eq(text.answers.n_items, ag_json_size(spans), "%s", title);
    }
    for (size_t i = 0; i < ag_json_size(spans); i++) {
        const ag_json_t *span = ag_json_at(spans, i);
        ag_text_span_t found = AG_ITEMS(&text.answers, ag_text_span_t)[i];

        cr_expect_eq((int64_t)found.begin, ag_json_integer(ag_json_at(span, 0), -1), "%s %s: %zu",
                     title, rendered, found.begin);
        cr_expect_eq((int64_t)found.end, ag_json_integer(ag_json_at(span, 1), -1), "%s %s: %zu",
                     title, rendered, found.end);
    }
    ag_chat_text_fini(&text);
}

static ag_chat_thinking_t thinking_of(const ag_json_t *expected)
{
    const ag_json_t *thinking = ag_json_get(expected, "thinking");

    return thinking == NULL                ? AG_THINKING_BY_TEMPLATE
           : ag_json_bool(thinking, false) ? AG_THINKING_ON
                                           : AG_THINKING_OFF;
}

/* Recognised, by its name where the reference has one, and rendered as Jinja2 renders it; a
 * template of this name alone renders the same, but for default system turns that only templates
 * know. */
static void check_template(const ag_json_t *listed, ag_date_t date, size_t *n_checked_p)
{
    const ag_json_t *cases = ag_json_get(listed, "cases");
    const char *title = ag_json_string(ag_json_get(listed, "title"), NULL);
    const char *name = ag_json_string(ag_json_get(listed, "name"), NULL);
    made_t made;

    open_model(&made, ag_json_string(ag_json_get(listed, "template"), NULL));
    for (size_t i = 0; i < ag_json_size(cases); i++) {
        const ag_json_t *expected = ag_json_at(cases, i);
        ag_chat_opts_t opts = {.thinking = thinking_of(expected),
                               .effort = ag_json_string(ag_json_get(expected, "effort"), NULL),
                               .date = date};
        ag_chat_t *chat;

        cr_assert_eq(ag_chat_open(made.tokenizer, &opts, &chat), AG_OK, "%s: %s", title,
                     ag_error());
        cr_expect(name == NULL || strcmp(ag_chat_name(chat), name) == 0, "%s is taken for %s",
                  title, ag_chat_name(chat));
        check_case(chat, expected, title);
        ag_chat_close(chat);
        ++*n_checked_p;
    }
    if (ag_json_bool(ag_json_get(listed, "refused"), false)) {
        ag_chat_t *chat;

        cr_expect_eq(ag_chat_open(made.tokenizer, NULL, &chat), AG_ERR_UNSUPPORTED, "%s", title);
    }
    made_close(&made);
}

Test(chat, templates_render_and_tell_answers_as_the_reference_does)
{
    ag_json_t *json;
    const ag_json_t *templates, *date;
    size_t n_checked = 0;

    cr_assert_eq(ag_json_read(AG_TEST_DATA "/chat/templates.json", &json), AG_OK);
    templates = ag_json_get(json, "templates");
    date = ag_json_get(json, "date");
    for (size_t i = 0; i < ag_json_size(templates); i++) {
        check_template(ag_json_at(templates, i),
                       (ag_date_t){.year = (unsigned)ag_json_integer(ag_json_at(date, 0), 0),
                                   .month = (unsigned)ag_json_integer(ag_json_at(date, 1), 0),
                                   .day = (unsigned)ag_json_integer(ag_json_at(date, 2), 0)},
                       &n_checked);
    }
    cr_expect_geq(n_checked, 1000);
    ag_json_destroy(json);
}

Test(chat, every_known_template_has_its_reference)
{
    char names[sizeof(ag_chat_names_t)], *rest = names, *name;
    ag_json_t *json;
    const ag_json_t *templates;

    cr_assert_eq(ag_json_read(AG_TEST_DATA "/chat/templates.json", &json), AG_OK);
    templates = ag_json_get(json, "templates");
    snprintf(names, sizeof(names), "%s", ag_chat_names().text);
    while ((name = strsep(&rest, ",")) != NULL) {
        bool found = false;

        name += *name == ' ';
        for (size_t i = 0; i < ag_json_size(templates); i++) {
            const char *listed =
                ag_json_string(ag_json_get(ag_json_at(templates, i), "name"), NULL);

            found |= listed != NULL && strcmp(listed, name) == 0;
        }
        cr_expect(found, "%s", name);
    }
    ag_json_destroy(json);
}

Test(chat, a_template_is_chosen_by_name_over_the_models_own)
{
    char *text;

    cr_assert_eq(render_by(CHATML, &(ag_chat_opts_t){.name = "llama3"}, hello, 1, &text), AG_OK);
    cr_expect_str_eq(text, "<s><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
                           "<|start_header_id|>assistant<|end_header_id|>\n\n");
    free(text);
    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "chatml"}, hello, 1, &text), AG_OK);
    cr_expect_str_eq(text, USER ANSWER);
    free(text);
    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "qwen2.5"}, hello, 1, &text), AG_OK);
    cr_expect_str_eq(text, "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a "
                           "helpful assistant.<|im_end|>\n" USER ANSWER);
    free(text);
    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "smollm3", .thinking = AG_THINKING_OFF},
                           hello, 1, &text),
                 AG_OK);
    cr_expect_str_eq(text,
                     "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n"
                     "Today Date: 26 July 2024\nReasoning Mode: /no_think\n\n## Custom "
                     "Instructions\n\nYou are a helpful AI assistant named SmolLM, trained by "
                     "Hugging Face.\n\n<|im_start|>user\nHello<|im_end|>\n"
                     "<|im_start|>assistant\n<think>\n\n</think>\n");
    free(text);
    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "mistral-v7-tekken"}, hello, 1, &text),
                 AG_OK);
    cr_expect_str_eq(text, "<s>[INST]Hello[/INST]");
    free(text);
    cr_expect_eq(render_by(CHATML, &(ag_chat_opts_t){.name = "llama"}, hello, 1, &text),
                 AG_ERR_INVALID);
    cr_expect_not_null(strstr(ag_error(), "\"llama\" is not known (known: chatml, "), "%s",
                       ag_error());
}

Test(chat, a_date_that_nobody_gives_is_llama_3s)
{
    char *text;

    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "llama3.2"}, hello, 1, &text), AG_OK);
    cr_expect_not_null(strstr(text, "Today Date: 26 Jul 2024\n"), "%s", text);
    free(text);
    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "gpt-oss", .date = {2031, 12, 1}}, hello,
                           1, &text),
                 AG_OK);
    cr_expect_not_null(strstr(text, "Current date: 2031-12-01\n"), "%s", text);
    free(text);
}

Test(chat, thinking_is_switched_where_there_is_a_switch)
{
    char *text;

    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "qwen3", .thinking = AG_THINKING_OFF},
                           hello, 1, &text),
                 AG_OK);
    cr_expect_str_eq(text, USER ANSWER "<think>\n\n</think>\n\n");
    free(text);
    cr_expect_eq(render_by(CHATML, &(ag_chat_opts_t){.thinking = AG_THINKING_ON}, hello, 1, &text),
                 AG_ERR_INVALID);
    cr_expect_not_null(strstr(ag_error(), "chatml does not switch thinking"), "%s", ag_error());
    cr_expect_eq(render_by(CHATML, &(ag_chat_opts_t){.effort = "low"}, hello, 1, &text),
                 AG_ERR_INVALID);
    cr_expect_not_null(strstr(ag_error(), "chatml does not say how much"), "%s", ag_error());
}

Test(chat, an_order_of_roles_that_a_template_refuses_is_refused)
{
    static const ag_chat_message_t ends_early[] = {{"user", "a", 1}, {"user", "b", 1}};
    static const ag_chat_message_t begins[] = {{"system", "a", 1}, {"assistant", "b", 1}};
    static const ag_chat_message_t late[] = {{"user", "a", 1}, {"system", "b", 1}};
    static const struct {
        const char *name, *error;
        const ag_chat_message_t *messages;
    } cases[] = {
        {"llama2", "message 1 is of the user, but by the chat template llama2", ends_early},
        {"gemma3", "message 1 is of the assistant, but by the chat template gemma3", begins},
        {"gemma", "message 0 is a system turn, which the chat template gemma does not", begins},
        {"mistral-v3", "message 1 is a system turn, which the chat template mistral-v3 has", late},
        {"gpt-oss", "message 1 is a system turn, which the chat template gpt-oss has", late},
    };
    char *text;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_expect_eq(
            render_by(NULL, &(ag_chat_opts_t){.name = cases[i].name}, cases[i].messages, 2, &text),
            AG_ERR_INVALID);
        cr_expect_not_null(strstr(ag_error(), cases[i].error), "%s", ag_error());
    }
}

Test(chat, an_answer_that_says_nothing_may_begin)
{
    static const ag_chat_message_t empty[] = {{"assistant", "", 0}};
    char *text;

    cr_assert_eq(render_by(NULL, &(ag_chat_opts_t){.name = "phi3-medium"}, empty, 1, &text), AG_OK);
    cr_expect_str_eq(text, "<|end|>\n");
    free(text);
}

Test(chat, content_is_taken_as_it_is)
{
    static const ag_chat_message_t odd[] = {{"user", "\0{{x}} 'a' \\n", 13}};
    static const ag_chat_message_t bad[] = {{"user",
                                             "a\xff"
                                             "b",
                                             3}};
    ag_chat_text_t text;
    ag_chat_t *chat;
    made_t made;

    open_model(&made, CHATML);
    ag_chat_text_init(&text);
    cr_assert_eq(ag_chat_open(made.tokenizer, NULL, &chat), AG_OK);
    cr_assert_eq(ag_chat_render(chat, odd, 1, true, &text), AG_OK);
    cr_assert_eq(text.text.n_items,
                 strlen("<|im_start|>user\n") + 13 + strlen("<|im_end|>\n" ANSWER));
    cr_expect_arr_eq(AG_ITEMS(&text.text, char) + strlen("<|im_start|>user\n"), odd[0].content, 13);
    cr_assert_eq(ag_chat_render(chat, bad, 1, false, &text), AG_OK);
    cr_expect_eq(memcmp(text.text.items,
                        "<|im_start|>user\na\xef\xbf\xbd"
                        "b<|im_end|>\n",
                        33),
                 0);
    ag_chat_close(chat);
    ag_chat_text_fini(&text);
    made_close(&made);
}

/* Ids of a turn of the user, and what they say. */
static void expect_turn_ids(const ag_tokenizer_t *tokenizer, const char *content,
                            const int32_t *ids, size_t n)
{
    const ag_chat_message_t turn = {"user", content, strlen(content)};
    ag_array_t found = AG_ARRAY(int32_t);
    ag_chat_text_t text;
    ag_chat_t *chat;

    ag_chat_text_init(&text);
    cr_assert_eq(ag_chat_open(tokenizer, &(ag_chat_opts_t){.name = "chatml"}, &chat), AG_OK);
    cr_assert_eq(ag_chat_render(chat, &turn, 1, false, &text), AG_OK);
    cr_assert_eq(ag_chat_encode(tokenizer, &text, 0, text.text.n_items, 0, &found, NULL), AG_OK);
    cr_assert_eq(found.n_items, n, "%s: %zu ids", content, found.n_items);
    cr_expect_arr_eq(found.items, ids, n * sizeof(*ids), "%s", content);
    ag_chat_close(chat);
    ag_chat_text_fini(&text);
    ag_array_fini(&found);
}

Test(chat, special_tokens_that_a_user_writes_are_text)
{
    static const char tokenizer[] =
        "{'model':{'vocab':{'<':0,'e':1,'>':2,'u':3,'E':4},'merges':[]}," PRE_BYTES
        ",'added_tokens':[{'id':5,'content':'<|im_start|>','special':true},"
        "{'id':6,'content':'<|im_end|>','special':true},{'id':7,'content':'<e>','special':true},"
        "{'id':8,'content':'<E>','special':false},{'id':9,'content':'e<|im_end|>','special':true}"
        "]}";
    made_t made;

    /* of letters this vocabulary has few: "user\n" is u, e */
    folder_begin(&made);
    folder_write(&made, "tokenizer.json", tokenizer);
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    expect_turn_ids(made.tokenizer, "u", (const int32_t[]){5, 3, 1, 3, 6}, 5);
    expect_turn_ids(made.tokenizer, "<e>", (const int32_t[]){5, 3, 1, 0, 1, 2, 6}, 7);
    expect_turn_ids(made.tokenizer, "<|im_end|>", (const int32_t[]){5, 3, 1, 0, 1, 2, 6}, 7);
    expect_turn_ids(made.tokenizer, "<E>", (const int32_t[]){5, 3, 1, 8, 6},
                    5); /* is not special */
    expect_turn_ids(made.tokenizer, "e", (const int32_t[]){5, 3, 1, 1, 6},
                    5); /* the mark stays one */
    made_close(&made);
}

Test(chat, so_are_those_that_it_writes_otherwise_where_text_is_normalized)
{
    static const char tokenizer[] =
        "{'model':{'vocab':{'<':0,'e':1,'>':2,'u':3},'merges':[]}," PRE_BYTES
        ",'normalizer':{'type':'Lowercase'},'added_tokens':["
        "{'id':5,'content':'<|im_start|>','special':true},"
        "{'id':6,'content':'<|im_end|>','special':true,'normalized':true}]}";
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", tokenizer);
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    expect_turn_ids(made.tokenizer, "U<|IM_END|>", (const int32_t[]){5, 3, 1, 3, 0, 1, 2, 6}, 8);
    made_close(&made);
}

Test(chat, an_answer_ends_in_a_token_of_the_template)
{
    static const struct {
        const char *name;
        int32_t end;
    } cases[] = {{"llama2", 1}, {"mistral-v3", 1}, {"chatml", -1}, {"gpt-oss", -1}, {"gemma", -1}};
    made_t made;

    open_model(&made, NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_chat_t *chat;

        cr_assert_eq(ag_chat_open(made.tokenizer, &(ag_chat_opts_t){.name = cases[i].name}, &chat),
                     AG_OK);
        cr_expect_eq(ag_chat_end(chat), cases[i].end, "%s: %d", cases[i].name, ag_chat_end(chat));
        ag_chat_close(chat);
    }
    made_close(&made);
}

Test(chat, another_template_is_refused)
{
    static const char *const templates[] = {
        "",
        "{% for message in messages %}",
        CHATML "x",
        "x" CHATML,
        CHATML CHATML,
        LOOP TURN "{% endfor %}",
        LOOP "{{'<|im_start|>' + message['role'] + ': ' + message['content'] + '<|im_end|>\\n'}}"
             "{% endfor %}" PROMPT,
        LOOP "{{'<|im_start|>' + message['content'] + '\\n' + message['role'] + '<|im_end|>\\n'}}"
             "{% endfor %}" PROMPT,
        LOOP "{{'<|im_start|>' + message['role'] + '\\n' + message['content']|trim + "
             "'<|im_end|>\\n'}}{% endfor %}" PROMPT,
        LOOP " " TURN "{% endfor %}" PROMPT,                     /* the space is text */
        LOOP TURN "{% endfor %}{%+ if add_generation_prompt %}", /* not understood */
        LOOP TURN "{% endfor %}{# nothing" PROMPT,               /* nor this */
        LOOP "{{'<|im_start|>\\x41'}}" TURN "{% endfor %}" PROMPT,
        "{{ '",
        "{{ 'a",
        "{%",
        "{{",
        "{",
        "{{ '\\",
        "{{ message['role",
        "{#",
        "{% if tools %}",
    };
    char *text;

    for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++) {
        cr_expect_eq(render(templates[i], hello, 1, &text), AG_ERR_UNSUPPORTED, "%s is taken",
                     templates[i]);
        cr_expect_null(text);
    }
}

Test(chat, a_model_without_a_template_says_so)
{
    char *text;

    cr_expect_eq(render(NULL, hello, 1, &text), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "no chat template"));
}

Test(chat, a_template_that_is_not_known_is_told_what_it_is_like)
{
    char *text;

    cr_expect_eq(render("{{ '<|start_header_id|>' }}", hello, 1, &text), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "most like llama3: "), "%s", ag_error());
    cr_expect_not_null(strstr(ag_error(), "--chat-template (known: chatml, "), "%s", ag_error());
    cr_expect_eq(render("{{ 'x' }}", hello, 1, &text), AG_ERR_UNSUPPORTED);
    cr_expect_null(strstr(ag_error(), "like"), "%s", ag_error());
}

Test(chat, no_message_and_unknown_roles_are_refused)
{
    static const ag_chat_message_t tool[] = {{"user", "a", 1}, {"tool", "b", 1}};
    static const ag_chat_message_t lines[] = {{"a\nb", "a", 1}};
    char *text;

    cr_expect_eq(render(CHATML, NULL, 0, &text), AG_ERR_INVALID);
    cr_expect_eq(render(CHATML, tool, 2, &text), AG_ERR_INVALID);
    cr_expect_not_null(strstr(ag_error(), "message 1 has the role \"tool\""));
    cr_expect_eq(render(CHATML, lines, 1, &text), AG_ERR_INVALID);
    cr_expect_not_null(strstr(ag_error(), "the role \"a?b\""), "%s", ag_error());
}

Test(chat, the_template_called_default_counts_and_the_file_of_its_own_before_it)
{
    static const char tokenizer[] = "{'model':{'vocab':{},'merges':[]}," PRE_BYTES "}";
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", tokenizer);
    folder_write(
        &made, "tokenizer_config.json",
        "{'chat_template':[{'name':'x','template':'X'},{'name':'default','template':'D'}]}");
    cr_assert_eq(folder_open(&made), AG_OK);
    cr_expect_str_eq(ag_tokenizer_chat_template(made.tokenizer), "D");
    ag_tokenizer_close(made.tokenizer);
    file_write(&made, "chat_template.jinja", "F", 1);
    cr_assert_eq(ag_tokenizer_open(made.files, &made.tokenizer), AG_OK);
    cr_expect_str_eq(ag_tokenizer_chat_template(made.tokenizer), "F");
    made_close(&made);
}
