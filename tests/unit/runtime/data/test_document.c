/* What becomes of a line: its ids, and which of them are learned. */
#include "runtime/data/document_priv.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "make_data.h"

/* One line through the rules of a room. */
typedef struct line {
    room_t room;
    ag_chat_t *chat;
    ag_doc_rules_t rules;
    ag_doc_output_t output;
} line_t;

static void line_open(line_t *line, const char *chat, bool bos)
{
    room_open(&line->room, chat, bos);
    line->chat = NULL;
    line->rules = (ag_doc_rules_t){.tokenizer = line->room.tokenizer, .vocab_size = TINY_VOCAB};
    line->rules.chat_status = ag_chat_open(line->room.tokenizer, NULL, &line->chat);
    line->rules.chat = line->chat;
    line->rules.chat_trouble = "the template is not known";
    ag_doc_output_init(&line->output);
}

static void line_close(line_t *line)
{
    ag_doc_output_fini(&line->output);
    ag_chat_close(line->chat);
    room_close(&line->room);
}

static ag_status_t line_add(line_t *line, const char *json)
{
    char text[512];

    snprintf(text, sizeof(text), "%s", json);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    return ag_doc_line(&line->rules, "d.jsonl", 17, text, strlen(text), &line->output);
}

/* Texts that are learned stand behind a +, others behind a -; ~ stands between them. */
static void expect_document(line_t *line, const char *json, unsigned flags, const char *expected)
{
    ag_array_t ids = AG_ARRAY(int32_t);
    const ag_data_doc_t *doc;
    uint32_t first = UINT32_MAX;
    char segments[512], *rest = segments, *segment;

    line->output.ids.n_items = line->output.docs.n_items = 0;
    cr_assert_eq(line_add(line, json), AG_OK, "%s: %s", json, ag_error());
    cr_assert_eq(line->output.docs.n_items, 1);
    snprintf(segments, sizeof(segments), "%s", expected);
    while ((segment = strsep(&rest, "~")) != NULL) {
        ag_array_t part = ids_of(line->room.tokenizer, segment + 1);

        for (size_t i = 0; i < part.n_items; i++) {
            int32_t id = AG_ITEMS(&part, int32_t)[i] | (*segment == '-' ? AG_DATA_NO_LOSS : 0);

            first =
                id >= 0 && ids.n_items > 0 && first == UINT32_MAX ? (uint32_t)ids.n_items : first;
            cr_assert_eq(ag_array_append(&ids, &id, 1), AG_OK);
        }
        ag_array_fini(&part);
    }
    doc = line->output.docs.items;
    cr_expect_eq(doc->flags, flags, "%s", json);
    cr_expect_eq(doc->first_target, first, "%s: %u, not %u", json, doc->first_target, first);
    cr_assert_eq(line->output.ids.n_items, ids.n_items, "%s: %zu ids, not %zu", json,
                 line->output.ids.n_items, ids.n_items);
    cr_expect_arr_eq(line->output.ids.items, ids.items, ids.n_items * sizeof(int32_t), "%s", json);
    ag_array_fini(&ids);
}

Test(document, texts_are_learned_with_their_end)
{
    line_t line;

    line_open(&line, NULL, false);
    expect_document(&line, "{'text':'Hello there'}", 0, "+Hello there</s>");
    expect_document(&line, "{'text':''}", 0, "+</s>");
    expect_document(&line, "{'text':'a</s>'}", 0, "+a</s>"); /* it ends already */
    expect_document(&line, " {'other':[1], 'text' : 'a\\n\\u00e9' }\r", 0, "+a\n\xc3\xa9</s>");
    line_close(&line);
    line_open(&line, NULL, true);
    expect_document(&line, "{'text':'Hello there'}", 0, "-<s>~+Hello there</s>");
    expect_document(&line, "{'text':'<s>Hello'}", 0, "-<s>~+Hello</s>"); /* it begins already */
    expect_document(&line, "{'text':''}", 0, "-<s>~+</s>");
    line_close(&line);
}

Test(document, of_a_sample_the_completion_is_learned)
{
    line_t line;

    line_open(&line, NULL, false);
    expect_document(&line, "{'prompt':'Two and two','completion':' is four'}", AG_DOC_SAMPLE,
                    "-Two and two~+ is four</s>");
    /* cut where the answer begins, whatever the tokenizer would join */
    expect_document(&line, "{'prompt':'th','completion':'e'}", AG_DOC_SAMPLE, "-th~+e~+</s>");
    expect_document(&line, "{'prompt':'','completion':'abc'}", AG_DOC_SAMPLE, "+abc</s>");
    expect_document(&line, "{'prompt':'abc','completion':''}", AG_DOC_SAMPLE, "-abc~+</s>");
    expect_document(&line, "{'prompt':'abc</s>','completion':''}", AG_DOC_SAMPLE, "-abc</s>~+</s>");
    line_close(&line);
    line_open(&line, NULL, true);
    expect_document(&line, "{'prompt':'a','completion':'b'}", AG_DOC_SAMPLE, "-<s>a~+b</s>");
    line_close(&line);
}

/* Where the tokenizer puts a space before texts, a completion is no text of its own. */
Test(document, no_space_is_put_before_a_completion)
{
    ag_array_t whole, answer;
    line_t line;

    room_open_file(&line.room, AG_TEST_DATA "/tokenizer/prefix/tokenizer.json");
    line.chat = NULL;
    line.rules = (ag_doc_rules_t){.tokenizer = line.room.tokenizer, .vocab_size = 1000};
    ag_doc_output_init(&line.output);
    cr_assert_eq(line_add(&line, "{'prompt':'a.','completion':'b'}"), AG_OK, "%s", ag_error());
    cr_assert_eq(line_add(&line, "{'prompt':'','completion':'b'}"), AG_OK, "%s", ag_error());
    whole = ids_of(line.room.tokenizer, "a.b");
    answer = ids_of(line.room.tokenizer, "b");
    cr_assert_eq(line.output.ids.n_items, whole.n_items + answer.n_items);
    for (size_t i = 0; i < whole.n_items; i++) {
        cr_expect_eq(ag_data_id(AG_ITEMS(&line.output.ids, int32_t)[i]),
                     AG_ITEMS(&whole, int32_t)[i]);
    }
    cr_expect_arr_eq(AG_ITEMS(&line.output.ids, int32_t) + whole.n_items, answer.items,
                     answer.n_items * sizeof(int32_t));
    ag_array_fini(&whole);
    ag_array_fini(&answer);
    line_close(&line);
}

#define USER(text) "<|im_start|>user\n" text "<|im_end|>\n"
#define ANSWER "<|im_start|>assistant\n"

Test(document, of_a_dialogue_the_answers_are_learned_each_with_its_end)
{
    line_t line;

    line_open(&line, CHATML, false);
    /* the tiny tokenizer's <|im_end|> is no token, and no end: an EOS follows */
    expect_document(&line,
                    "{'messages':[{'role':'user','content':'Hi'},"
                    "{'role':'assistant','content':'Ho'}]}",
                    AG_DOC_SAMPLE, "-" USER("Hi") ANSWER "~+Ho<|im_end|>~+</s>");
    expect_document(&line,
                    "{'messages':[{'role':'user','content':'a'},{'role':'assistant',"
                    "'content':'b'},{'role':'user','content':'c'},{'role':'assistant',"
                    "'content':'d'}],'text':'x','prompt':'y','completion':'z'}",
                    AG_DOC_SAMPLE,
                    "-" USER("a") ANSWER "~+b<|im_end|>~-\n" USER("c") ANSWER
                    "~+d<|im_end|>~+</s>");
    /* an end after what is not learned is not learned either */
    expect_document(&line, "{'messages':[{'role':'user','content':'a'}]}", AG_DOC_SAMPLE,
                    "-" USER("a") "~-</s>");
    expect_document(&line,
                    "{'messages':[{'role':'assistant','content':'b'},"
                    "{'role':'user','content':'a'}]}",
                    AG_DOC_SAMPLE, "-" ANSWER "~+b<|im_end|>~-\n" USER("a") "~-</s>");
    line_close(&line);
}

/* A room whose <|im_end|> is a token, and ends. */
static void line_open_with_marks(line_t *line)
{
    room_open(&line->room, NULL, false);
    ag_tokenizer_close(line->room.tokenizer);
    room_text(&line->room, "model/chat_template.jinja", CHATML);
    room_lines(&line->room, "model/tokenizer.json",
               "{'added_tokens':[{'id':1,'content':'<|im_end|>','special':true}],"
               "'model':{'vocab':{'H':0,'i':2,'o':3},'merges':[]},'pre_tokenizer':"
               "{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}}");
    room_lines(&line->room, "model/tokenizer_config.json", "{'eos_token':'<|im_end|>'}");
    cr_assert_eq(ag_tokenizer_open(line->room.files, &line->room.tokenizer), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(ag_chat_open(line->room.tokenizer, NULL, &line->chat), AG_OK);
    line->rules = (ag_doc_rules_t){
        .tokenizer = line->room.tokenizer, .chat = line->chat, .vocab_size = TINY_VOCAB};
    ag_doc_output_init(&line->output);
}

Test(document, a_dialogue_whose_turns_end_in_an_end_token_gets_no_second)
{
    static const char json[] = "{'messages':[{'role':'user','content':'Hi'},"
                               "{'role':'assistant','content':'Ho'}]}";
    line_t line;
    int32_t last;

    line_open_with_marks(&line);
    cr_assert_eq(line_add(&line, json), AG_OK, "%s", ag_error());
    last = AG_ITEMS(&line.output.ids, int32_t)[line.output.ids.n_items - 1];
    cr_expect_eq(last, 1, "the answer's end is learned, and the last: %d", last);
    cr_expect_eq(AG_ITEMS(&line.output.ids, int32_t)[line.output.ids.n_items - 2], 3);
    line_close(&line);
}

Test(document, marks_that_a_dialogue_says_are_text)
{
    static const char json[] = "{'messages':[{'role':'user','content':'H<|im_end|>'},"
                               "{'role':'assistant','content':'<|im_end|>o'}]}";
    line_t line;
    size_t n_ends = 0;

    line_open_with_marks(&line);
    cr_assert_eq(line_add(&line, json), AG_OK, "%s", ag_error());
    for (size_t i = 0; i < line.output.ids.n_items; i++) {
        n_ends += ag_data_id(AG_ITEMS(&line.output.ids, int32_t)[i]) == 1;
    }
    cr_expect_eq(n_ends, 2, "%zu marks, not one behind each turn", n_ends);
    line_close(&line);
}

Test(document, other_fields_are_passed_over_whatever_they_hold)
{
    line_t line;

    line_open(&line, NULL, false);
    expect_document(&line,
                    "{'id':18446744073709551615,'x':{'y':[null,true,1.5e300]},'text':'a','z':''}",
                    0, "+a</s>");
    line_close(&line);
}

Test(document, blank_lines_are_passed_over)
{
    static const char *const blank[] = {"", " ", "\t\r", "\xef\xbb\xbf"};
    line_t line;

    line_open(&line, NULL, false);
    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(ag_doc_line(&line.rules, "d", 1, blank[i], strlen(blank[i]), &line.output),
                     AG_OK);
    }
    cr_expect_eq(line.output.docs.n_items, 0);
    cr_expect_eq(ag_doc_line(&line.rules, "d", 1, "\xef\xbb\xbf{\"text\":\"\"}", 14, &line.output),
                 AG_OK);
    cr_expect_eq(line.output.docs.n_items, 1);
    line_close(&line);
}

Test(document, what_is_no_utf8_is_replaced_and_counted)
{
    static const char bad[] = "{\"text\":\"a\xff\xe2\x82\"}";
    ag_array_t ids;
    line_t line;

    line_open(&line, NULL, false);
    cr_assert_eq(ag_doc_line(&line.rules, "d", 1, bad, strlen(bad), &line.output), AG_OK);
    cr_expect_eq(line.output.n_replaced, 2);
    ids = ids_of(line.room.tokenizer, "a\xef\xbf\xbd\xef\xbf\xbd</s>");
    cr_assert_eq(line.output.ids.n_items, ids.n_items);
    cr_expect_arr_eq(line.output.ids.items, ids.items, ids.n_items * sizeof(int32_t));
    ag_array_fini(&ids);
    cr_assert_eq(line_add(&line, "{'text':'\\ud800'}"), AG_OK);
    cr_expect_eq(line.output.n_replaced, 3);
    cr_assert_eq(line_add(&line, "{'text':'\\ud800 and \\udc00, both'}"), AG_OK);
    cr_expect_eq(line.output.n_replaced, 5);
    cr_assert_eq(ag_doc_text(&line.rules, "d", "\xff", 1, false, &line.output), AG_OK);
    cr_expect_eq(line.output.n_replaced, 6);
    line_close(&line);
}

static void expect_error(line_t *line, const char *json, ag_status_t status, const char *words)
{
    ag_status_t found = line_add(line, json);

    cr_expect_eq(found, status, "%s: %s", json, ag_status_name(found));
    cr_expect_eq(strncmp(ag_error(), "d.jsonl:17: ", 12), 0, "%s", ag_error());
    cr_expect_not_null(strstr(ag_error(), words), "\"%s\" does not say \"%s\"", ag_error(), words);
}

Test(document, what_is_wrong_is_told_with_file_and_line)
{
    line_t line;

    line_open(&line, CHATML, false);
    expect_error(&line, "[{'text':'a'}]", AG_ERR_FORMAT, "each line is one JSON object");
    expect_error(&line, "'text'", AG_ERR_FORMAT, "each line is one JSON object");
    expect_error(&line, "{'text':'a'", AG_ERR_FORMAT, "column");
    expect_error(&line, "{'text':'a'} x", AG_ERR_FORMAT, "column");
    expect_error(&line, "{}", AG_ERR_FORMAT, "no \"text\"");
    expect_error(&line, "{'prompt':'a'}", AG_ERR_FORMAT, "no \"text\"");
    expect_error(&line, "{'text':1}", AG_ERR_FORMAT, "\"text\" is no string");
    expect_error(&line, "{'prompt':'a','completion':null}", AG_ERR_FORMAT, "two strings");
    expect_error(&line, "{'messages':{}}", AG_ERR_FORMAT, "no list");
    expect_error(&line, "{'messages':[]}", AG_ERR_FORMAT, "no list");
    expect_error(&line, "{'messages':[{'role':'user'}]}", AG_ERR_FORMAT, "message 0");
    expect_error(&line, "{'messages':[{'role':'user','content':'a'},1]}", AG_ERR_FORMAT,
                 "message 1");
    expect_error(&line, "{'messages':[{'role':'tool','content':'a'}]}", AG_ERR_FORMAT, "\"tool\"");
    line.rules.vocab_size = 2;
    expect_error(&line, "{'text':'a</s>'}", AG_ERR_INVALID, "vocabulary of 2");
    line_close(&line);
    line_open(&line, NULL, false);
    expect_error(&line, "{'messages':[{'role':'user','content':'a'}]}", AG_ERR_UNSUPPORTED,
                 "give \"prompt\" and \"completion\"");
    line_close(&line);
}
