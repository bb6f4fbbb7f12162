/* Chat templates: what is recognised, how it is rendered, and that all else is refused. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_text.h"
#include "runtime/base/json.h"
#include "runtime/text/chat.h"
#include "runtime/text/template_priv.h"

static const ag_chat_message_t hello[] = {{"user", "Hello", 5}};

/* Render with a template that stands in chat_template.jinja, as it is. */
static ag_status_t render(const char *template, const ag_chat_message_t *messages, size_t n,
                          char **text_p)
{
    made_t made;
    size_t n_bytes;
    ag_status_t status;

    *text_p = NULL;
    folder_begin(&made);
    folder_write(&made, "tokenizer.json", "{'model':{'vocab':{},'merges':[]}," PRE_BYTES "}");
    if (template != NULL) {
        file_write(&made, "chat_template.jinja", template, strlen(template));
    }
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    status = ag_chat_render(made.tokenizer, messages, n, text_p, &n_bytes);
    if (status == AG_OK) {
        cr_expect_eq(n_bytes, strlen(*text_p));
    }
    made_close(&made);
    return status;
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

Test(chat, a_dialogue_tells_its_answers_with_the_mark_that_ends_each)
{
    static const ag_chat_message_t dialogue[] = {
        {"user", "a", 1}, {"assistant", "yes", 3}, {"user", "c", 1}, {"assistant", "", 0}};
    static const char expected[] = "<|im_start|>system\nBe 'kind'.\n<|im_end|>\n"
                                   "<|im_start|>user\na<|im_end|>\n" ANSWER "yes<|im_end|>\n"
                                   "<|im_start|>user\nc<|im_end|>\n" ANSWER "<|im_end|>\n";
    static const char template[] = LOOP SYSTEM TURN "{% endfor %}" PROMPT;
    ag_array_t text = AG_ARRAY(char), answers = AG_ARRAY(ag_chat_span_t);
    ag_chat_span_t *spans;
    ag_chat_t *chat;
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", "{'model':{'vocab':{},'merges':[]}," PRE_BYTES "}");
    file_write(&made, "chat_template.jinja", template, strlen(template));
    cr_assert_eq(folder_open(&made), AG_OK);
    cr_assert_eq(ag_chat_open(made.tokenizer, &chat), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_chat_dialogue(chat, dialogue, 4, &text, &answers), AG_OK, "%s", ag_error());
    cr_assert_eq(text.n_items, strlen(expected));
    cr_expect_arr_eq(text.items, expected, strlen(expected));
    spans = answers.items;
    cr_assert_eq(answers.n_items, 2);
    cr_expect_eq(spans[0].begin, (size_t)(strstr(expected, "yes") - expected));
    cr_expect_eq(spans[0].end, spans[0].begin + strlen("yes<|im_end|>"));
    cr_expect_eq(spans[1].end, strlen(expected) - 1);
    cr_expect_eq(spans[1].begin, spans[1].end - strlen("<|im_end|>"));
    ag_chat_close(chat);
    ag_array_fini(&text);
    ag_array_fini(&answers);
    made_close(&made);
}

/* One of Jinja2's renderings: the same text, the same answers. */
static void check_dialogue(const ag_json_t *dialogue)
{
    const ag_json_t *list = ag_json_get(dialogue, "messages"), *spans;
    const char *template = ag_json_string(ag_json_get(dialogue, "template"), NULL), *rendered;
    ag_array_t text = AG_ARRAY(char), answers = AG_ARRAY(ag_chat_span_t);
    ag_chat_message_t messages[8] = {0};
    size_t n = ag_json_size(list), n_rendered;
    ag_chat_t *chat;
    made_t made;

    cr_assert(n > 0 && n <= 8);
    for (size_t i = 0; i < n; i++) {
        const ag_json_t *message = ag_json_at(list, i);

        messages[i].role = ag_json_string(ag_json_get(message, "role"), NULL);
        messages[i].content =
            ag_json_string(ag_json_get(message, "content"), &messages[i].content_bytes);
    }
    folder_begin(&made);
    folder_write(&made, "tokenizer.json", "{'model':{'vocab':{},'merges':[]}," PRE_BYTES "}");
    file_write(&made, "chat_template.jinja", template, strlen(template));
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_chat_open(made.tokenizer, &chat), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_chat_dialogue(chat, messages, n, &text, &answers), AG_OK, "%s", ag_error());
    rendered = ag_json_string(ag_json_get(dialogue, "rendered"), &n_rendered);
    cr_expect(text.n_items == n_rendered && memcmp(text.items, rendered, n_rendered) == 0,
              "\"%.*s\", not \"%s\"", (int)text.n_items, AG_ITEMS(&text, char), rendered);
    spans = ag_json_get(dialogue, "answers");
    cr_assert_eq(answers.n_items, ag_json_size(spans));
    for (size_t i = 0; i < answers.n_items; i++) {
        const ag_json_t *span = ag_json_at(spans, i);
        const ag_chat_span_t *found = AG_ITEMS(&answers, ag_chat_span_t) + i;

        cr_expect_eq((int64_t)found->begin, ag_json_integer(ag_json_at(span, 0), -1));
        cr_expect_eq((int64_t)found->end, ag_json_integer(ag_json_at(span, 1), -1));
    }
    ag_chat_close(chat);
    ag_array_fini(&text);
    ag_array_fini(&answers);
    made_close(&made);
}

Test(chat, dialogues_and_their_answers_are_those_of_the_reference)
{
    ag_json_t *dialogues;

    cr_assert_eq(ag_json_read(AG_TEST_DATA "/chat/dialogues.json", &dialogues), AG_OK);
    cr_assert_geq(ag_json_size(dialogues), 25);
    for (size_t i = 0; i < ag_json_size(dialogues); i++) {
        check_dialogue(ag_json_at(dialogues, i));
    }
    ag_json_destroy(dialogues);
}

Test(chat, content_is_taken_as_it_is)
{
    static const ag_chat_message_t odd[] = {{"user", "\0{{x}} 'a' \\n", 13}};
    char *text;
    made_t made;
    size_t n_bytes;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", "{'model':{'vocab':{},'merges':[]}," PRE_BYTES "}");
    file_write(&made, "chat_template.jinja", CHATML, strlen(CHATML));
    cr_assert_eq(folder_open(&made), AG_OK);
    cr_assert_eq(ag_chat_render(made.tokenizer, odd, 1, &text, &n_bytes), AG_OK);
    cr_assert_eq(n_bytes, strlen("<|im_start|>user\n") + 13 + strlen("<|im_end|>\n" ANSWER));
    cr_expect_arr_eq(text + strlen("<|im_start|>user\n"), odd[0].content, 13);
    free(text);
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
        LOOP TURN "{% endfor %}{# nothing #}" PROMPT,            /* not understood */
        LOOP TURN "{% endfor %}{%+ if add_generation_prompt %}", /* nor this */
        LOOP "{{'<|im_start|>\\x41'}}" TURN "{% endfor %}" PROMPT,
        "{{ '",
        "{{ 'a",
        "{%",
        "{{",
        "{",
        "{{ '\\",
        "{{ message['role",
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

static void expect_form(const char *template, const char *form)
{
    ag_array_t found = AG_ARRAY(char);

    cr_assert_eq(ag_template_form(template, &found), AG_OK);
    cr_expect_str_eq(found.items, form, "%s becomes %s", template, AG_ITEMS(&found, char));
    ag_array_fini(&found);
}

Test(template, tags_are_brought_to_one_form)
{
    expect_form("{%-  if   a  -%}", "{%if a%}");
    expect_form("{{ a [ 'b' ] . c }}", "{{a.b.c}}");
    expect_form("{{ a['1'] }}", "{{a['1']}}");
    expect_form("{{ \"a'b\" + 'c\\\\' }}", "{{'a\\'bc\\\\'}}");
    expect_form("{{ a }}{{ 'b' }}\n", "{{a+'b'}}");
    expect_form("{% if a %}\n  {% endif %}\n", "{%if a%}{%endif%}");
    expect_form("{{ '%}' }}", "{{'%}'}}");
    expect_form("{{ a != b }}", "{{a!=b}}");
    expect_form("{{ a ! = b }}", "{{a! =b}}"); /* which is an error in Jinja */
}

Test(template, text_that_would_be_written_is_not_dropped)
{
    expect_form("{{ a }} {{ b }}", "");
    expect_form("{{ a }}\n{{ b }}", "");
    expect_form("{% if a %}\n\n{% endif %}", "");
    expect_form("{% if a %} {% endif %}", "");
    expect_form("{{ a }}  ", "");
}

Test(template, what_a_form_leaves_open_is_found)
{
    static const char form[] = "{{'a" AG_FORM_TEXT "b'}}{%if x%}" AG_FORM_DEAD "{%endif%}";
    const char *found;
    size_t n;

    cr_expect(ag_template_matches("{{'a\\'cb'}}{%if x%}{%if y%}{{'%}'}}{%else%}{%endif%}{%endif%}",
                                  form, &found, &n));
    cr_assert_eq(n, 3);
    cr_expect_arr_eq(found, "\\'c", 3);
    cr_expect_not(ag_template_matches("{{'ac'}}{%if x%}{%endif%}", form, &found, &n));
    cr_expect_not(ag_template_matches("{{'ab'}}{%if x%}{%else%}{%endif%}", form, &found, &n));
    cr_expect_not(ag_template_matches("{{'a", form, &found, &n));
}
