/* tokenizer.json and what stands beside it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "make_text.h"
#include "runtime/base/log.h"

#define MODEL "'model':{'type':'BPE','vocab':{'a':0,'b':1,'ab':2},'merges':['a b']}"
#define PLAIN "{" MODEL "," PRE_BYTES "}"

Test(read_folder, a_file_without_its_parts_is_refused)
{
    expect_refused("[", AG_ERR_FORMAT, "tokenizer.json");
    expect_refused("{}", AG_ERR_FORMAT, "model.vocab is missing");
    expect_refused("{" PRE_BYTES "}", AG_ERR_FORMAT, "model.vocab is missing");
    expect_refused("{'model':{'merges':[]}," PRE_BYTES "}", AG_ERR_FORMAT, "model.vocab");
    expect_refused("{'model':{'vocab':{}}," PRE_BYTES "}", AG_ERR_FORMAT, "model.merges");
    expect_refused("{'model':{'vocab':[],'merges':[]}," PRE_BYTES "}", AG_ERR_FORMAT, "an object");
    expect_refused("{'model':{'vocab':{},'merges':{}}," PRE_BYTES "}", AG_ERR_FORMAT, "a list");
}

/* As tokenizers 0.23.3: "1.0", or a file older than the key. */
Test(read_folder, a_version_that_is_not_known_is_refused)
{
    made_t made;

    made_open(&made, "{'version':'1.0'," MODEL "," PRE_BYTES "}");
    made_close(&made);
    expect_refused("{'version':'9.9'," MODEL "," PRE_BYTES "}", AG_ERR_UNSUPPORTED,
                   "version \"9.9\" is not known (known: 1.0)");
    expect_refused("{'version':1.0," MODEL "," PRE_BYTES "}", AG_ERR_UNSUPPORTED, "version");
    expect_refused("{'version':null," MODEL "," PRE_BYTES "}", AG_ERR_UNSUPPORTED, "version");
}

static void keep_line(void *arg, ag_log_level_t level, const char *line)
{
    cr_expect_eq(level, AG_LOG_WARNING);
    snprintf(arg, 256, "%s", line);
}

Test(read_folder, dropout_is_not_applied_and_that_is_told)
{
    static const char *const none[] = {"null", "0", "0.0"}, *const some[] = {"0.9", "1"},
                             *const odd[] = {"1.5", "-0.1", "'x'", "true"};
    static const char model[] =
        "{'model':{'dropout':%s,'vocab':{'a':0,'b':1,'ab':2},'merges':['a b']}," PRE_BYTES "}";
    char json[256], said[256] = "";
    made_t made;

    ag_log_set_sink(keep_line, said);
    for (size_t i = 0; i < 3; i++) {
        snprintf(json, sizeof(json), model, none[i]);
        made_open(&made, json);
        cr_expect_str_eq(said, "");
        made_close(&made);
    }
    for (size_t i = 0; i < 2; i++) {
        said[0] = '\0';
        snprintf(json, sizeof(json), model, some[i]);
        made_open(&made, json);
        cr_expect_not_null(strstr(said, "tokenizer.json: model.dropout is"), "%s", said);
        cr_expect_not_null(strstr(said, "not applied"), "%s", said);
        expect_ids(made.tokenizer, "abab", 0, "2 2");
        made_close(&made);
    }
    ag_log_set_sink(NULL, NULL);
    for (size_t i = 0; i < 4; i++) {
        snprintf(json, sizeof(json), model, odd[i]);
        expect_refused(json, AG_ERR_FORMAT, "model.dropout is not a number from 0 to 1");
    }
}

Test(read_folder, a_folder_without_the_file_is_refused)
{
    made_t made;

    folder_begin(&made);
    cr_expect_eq(folder_open(&made), AG_ERR_IO);
    cr_expect_not_null(strstr(ag_error(), "tokenizer.json"));
    made_close(&made);
    folder_begin(&made);
    folder_write(&made, "tokenizer.model", "");
    cr_expect_eq(folder_open(&made), AG_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(ag_error(), "tokenizer.model is not read"));
    made_close(&made);
}

Test(read_folder, another_algorithm_is_refused_by_its_name)
{
    expect_refused("{'model':{'type':'WordPiece'}," PRE_BYTES "}", AG_ERR_UNSUPPORTED,
                   "model \"WordPiece\" is not known (known: BPE, Unigram)");
    expect_refused("{'model':{'type':7}," PRE_BYTES "}", AG_ERR_UNSUPPORTED, "model");
    expect_refused("{'model':{'byte_fallback':true}," PRE_BYTES "}", AG_ERR_UNSUPPORTED,
                   "falls back");
    expect_refused("{'model':{'end_of_word_suffix':'</w>'}," PRE_BYTES "}", AG_ERR_UNSUPPORTED,
                   "suffix");
    expect_refused("{'model':{'continuing_subword_prefix':'##'}," PRE_BYTES "}", AG_ERR_UNSUPPORTED,
                   "prefix");
    expect_refused("{'model':{'type':'Unigram','vocab':[['a',0]]}," PRE_BYTES "}",
                   AG_ERR_UNSUPPORTED, "Unigram over bytes");
}

Test(read_folder, steps_that_are_not_known_are_refused_by_their_name)
{
    static const char *const steps[][2] = {
        {"'normalizer':{'type':'BertNormalizer'}", "the normalizer \"BertNormalizer\""},
        {"'normalizer':{'type':'Sequence','normalizers':[{'type':'NFC'},{'type':'Nmt'}]}",
         "the normalizer \"Nmt\""},
        {"'normalizer':{}", "the normalizer \"\""},
        {"'normalizer':{'type':'Replace','pattern':{'Regex':''},'content':''}", "Replace"},
        {"'normalizer':{'type':'Replace','pattern':{'String':'a'}}", "Replace"},
        {"'normalizer':{'type':'Replace','pattern':{'Regex':'a('},'content':''}", "expression"},
        {"'normalizer':{'type':'Precompiled'}", "without its map"},
        {"'decoder':{'type':'WordPiece'}", "the decoder \"WordPiece\""},
        {"'decoder':{'type':'ByteLevel'}", "decoder ByteLevel"},
        {"'decoder':{'type':'Replace','pattern':{'Regex':'x'},'content':''}", "decoder Replace"},
        {"'decoder':{'type':'Strip','content':' ','start':1,'stop':0}", "after Fuse"},
        {"'decoder':{'type':'Sequence','decoders':[{'type':'Fuse'},{'type':'Strip','content':' ',"
         "'start':1,'stop':1}]}",
         "decoder Strip"},
        {"'decoder':{'type':'Sequence','decoders':[{'type':'Metaspace','replacement':'_'},"
         "{'type':'Replace','pattern':{'String':'a'},'content':'b'}]}",
         "replaces more than one"},
        {"'post_processor':{'type':'Odd'}", "the post-processor \"Odd\""},
        {"'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'a'}},"
         "{'SpecialToken':{'id':'a'}},{'Sequence':{'id':'A'}}]}",
         "TemplateProcessing"},
        {"'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'a'}},"
         "{'Sequence':{'id':'A'}}],'special_tokens':{'a':{'ids':[0,1]}}}",
         "several ids"},
    };
    char json[768];

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        snprintf(json, sizeof(json), "{" MODEL ",%s}", steps[i][0]);
        expect_refused(json, AG_ERR_UNSUPPORTED, steps[i][1]);
    }
    expect_refused("{" MODEL ",'normalizer':{'type':'Precompiled','precompiled_charsmap':'AAAA'}}",
                   AG_ERR_FORMAT, "damaged");
    expect_refused("{" MODEL ",'normalizer':{'type':'Prepend'}}", AG_ERR_FORMAT, "Prepend");
}

Test(read_folder, ids_that_make_no_sense_are_refused)
{
    static const char *const ids[] = {
        "-1", "1e300", "4294967296", "9223372036854775807", "'0'", "null", "0.5", "99999999", "[]"};
    char json[256];

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        snprintf(json, sizeof(json), "{'model':{'vocab':{'a':%s},'merges':[]}," PRE_BYTES "}",
                 ids[i]);
        expect_refused(json, AG_ERR_FORMAT, "which makes no sense");
        snprintf(json, sizeof(json),
                 "{'added_tokens':[{'content':'x','id':%s}]," MODEL "," PRE_BYTES "}", ids[i]);
        expect_refused(json, AG_ERR_FORMAT, "which makes no sense");
    }
}

Test(read_folder, added_tokens_that_cannot_be_held_to_are_refused)
{
    expect_refused("{'added_tokens':[{'id':3}]," MODEL "," PRE_BYTES "}", AG_ERR_FORMAT,
                   "no content");
    expect_refused("{'added_tokens':[7]," MODEL "," PRE_BYTES "}", AG_ERR_FORMAT, "no content");
}

Test(read_folder, merges_that_make_no_token_are_refused)
{
    static const char *const merges[] = {
        "'a b','b a'", "'a b','a c'",           "'a b','c b'",   "'a b','ab'", "'a b','a b c'",
        "'a b',['a']", "'a b',['a','b','c'],7", "'a b',['a',1]", "'a b',''",   "'a b',' '",
        "'a b','a '"};
    char json[256];

    for (size_t i = 0; i < sizeof(merges) / sizeof(merges[0]); i++) {
        snprintf(json, sizeof(json),
                 "{'model':{'vocab':{'a':0,'b':1,'ab':2},'merges':[%s]}," PRE_BYTES "}", merges[i]);
        expect_refused(json, AG_ERR_FORMAT, "not two tokens that make a third");
    }
}

Test(read_folder, merges_of_words_that_no_byte_can_become_are_passed_over)
{
    made_t made;

    made_open(&made, "{'model':{'vocab':{'a':0,'b':1,'ab':2,'日':3,'日b':4},"
                     "'merges':['日 b','a b']}," PRE_BYTES "}");
    expect_ids(made.tokenizer, "ab", 0, "2");
    made_close(&made);
}

Test(read_folder, ids_may_have_gaps)
{
    size_t n;
    made_t made;

    made_open(&made, "{'model':{'vocab':{'a':7},'merges':[]}," PRE_BYTES "}");
    cr_expect_eq(ag_tokenizer_size(made.tokenizer), 8);
    expect_ids(made.tokenizer, "a", 0, "7");
    ag_tokenizer_piece(made.tokenizer, 3, AG_TOKEN_SPECIAL, &n);
    cr_expect_eq(n, 0);
    made_close(&made);
}

Test(read_folder, pre_tokenizers_that_are_not_known_are_refused)
{
    static const char *const steps[] = {
        "{'type':'Whitespace'}",
        "{'type':'Sequence'}",
        "{'type':'Sequence','pretokenizers':[{'type':'ByteLevel'},{'type':'Digits'}]}",
        "{'type':'Sequence','pretokenizers':[{'type':'ByteLevel'},{'type':'ByteLevel'}]}",
        "{'type':'Metaspace'}",
        "{'type':'Metaspace','replacement':'_','prepend_scheme':'last'}",
        "{'type':'Punctuation','behavior':'Odd'}",
        "{'type':'Split'}",
        "{'type':'Split','pattern':{'Regex':'a'},'behavior':'Odd'}",
        "{'type':'Split','pattern':{'Regex':''},'behavior':'Isolated'}",
        "{'type':'Split','pattern':{'Regex':7},'behavior':'Isolated'}",
        "{'type':'Split','pattern':{'Regex':'a\\u0000b'},'behavior':'Isolated'}",
    };
    char json[512];

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        snprintf(json, sizeof(json), "{" MODEL ",'pre_tokenizer':%s}", steps[i]);
        expect_refused(json, AG_ERR_UNSUPPORTED, "pre-tokenizer");
    }
}

Test(read_folder, an_expression_that_is_refused_is_named_with_its_file)
{
    static const char json[] = "{" MODEL ",'pre_tokenizer':{'type':'Sequence','pretokenizers':["
                               "{'type':'Split','pattern':{'Regex':'%s'},'behavior':'Isolated'},"
                               "{'type':'ByteLevel','add_prefix_space':false}]}}";
    char text[512];

    snprintf(text, sizeof(text), json, "a(");
    expect_refused(text, AG_ERR_UNSUPPORTED, "tokenizer.json: the expression");
    snprintf(text, sizeof(text), json, "\\\\Gx");
    expect_refused(text, AG_ERR_UNSUPPORTED, "tokenizer.json: the expression");
}

Test(read_folder, end_tokens_come_from_every_file)
{
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json",
                 "{'added_tokens':[{'id':3,'content':'<e>'},"
                 "{'id':4,'content':'<f>'}]," MODEL "," PRE_BYTES "}");
    folder_write(&made, "config.json", "{'eos_token_id':0}");
    folder_write(&made, "generation_config.json", "{'eos_token_id':[1,3]}");
    folder_write(&made, "tokenizer_config.json", "{'eos_token':{'content':'<f>'}}");
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    for (int32_t id = -1; id < 6; id++) {
        cr_expect_eq(ag_tokenizer_is_end(made.tokenizer, id), id >= 0 && id != 2 && id < 5, "id %d",
                     id);
    }
    made_close(&made);
}

Test(read_folder, end_tokens_beyond_the_vocabulary_are_passed_over)
{
    static const char *const ids[] = {"4294967296",
                                      "4294967297",
                                      "-1",
                                      "3",
                                      "9223372036854775807",
                                      "-9223372036854775808",
                                      "'0'",
                                      "1e99",
                                      "[[0]]",
                                      "{}",
                                      "null"};
    char json[64];

    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        made_t made;

        folder_begin(&made);
        folder_write(&made, "tokenizer.json", PLAIN);
        snprintf(json, sizeof(json), "{'eos_token_id':%s}", ids[i]);
        folder_write(&made, "config.json", json);
        cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
        for (int32_t id = -1; id < 4; id++) {
            cr_expect_not(ag_tokenizer_is_end(made.tokenizer, id), "%s makes %d an end", ids[i],
                          id);
        }
        made_close(&made);
    }
}

#define TEMPLATE(id)                                                                               \
    "'post_processor':{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>'}},"       \
    "{'Sequence':{'id':'A'}}],'special_tokens':{'<s>':{'ids':[" id "]}}}"

static void expect_bos(const char *processor, const char *config, int32_t bos)
{
    char json[1024];
    made_t made;

    folder_begin(&made);
    snprintf(json, sizeof(json),
             "{'added_tokens':[{'id':3,'content':'<s>'}],%s," MODEL "," PRE_BYTES "}", processor);
    folder_write(&made, "tokenizer.json", json);
    folder_write(&made, "tokenizer_config.json", config);
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_tokenizer_bos(made.tokenizer), bos, "%s and %s give %d", processor, config,
                 ag_tokenizer_bos(made.tokenizer));
    made_close(&made);
}

/* As transformers 5.24 has it; more of its answers are in tests/parity/data/tokenizer/bos.json. */
Test(read_folder, the_bos_is_the_templates_whatever_the_configuration_says)
{
    static const char *const configs[] = {
        "{}",
        "{'bos_token':'<s>'}",
        "{'add_bos_token':true,'bos_token':'<s>'}",
        "{'add_bos_token':true,'bos_token':{'content':'<s>'}}",
        "{'add_bos_token':false,'bos_token':'<s>'}",
        "{'add_bos_token':false,'tokenizer_class':'LlamaTokenizer'}",
        "{'add_eos_token':false}",
        "{'add_eos_token':true,'tokenizer_class':'GPT2TokenizerFast'}",
    };

    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
        expect_bos("'post_processor':null", configs[i], -1);
        expect_bos("'post_processor':{'type':'ByteLevel'}", configs[i], -1);
        expect_bos(TEMPLATE("3"), configs[i], 3);
        expect_bos("'post_processor':{'type':'Sequence','processors':[{'type':'ByteLevel'},"
                   "{'type':'Sequence','processors':[]}]}",
                   configs[i], -1);
    }
}

Test(read_folder, a_bos_beyond_the_vocabulary_is_none)
{
    expect_bos(TEMPLATE("4"), "{}", -1);
    expect_bos(TEMPLATE("4294967299"), "{}", -1);
    expect_bos(TEMPLATE("-1"), "{}", -1);
    expect_bos(TEMPLATE("'3'"), "{}", -1);
    expect_bos(TEMPLATE(""), "{}", -1);
}

static void expect_around(const char *processor, int32_t bos, int32_t after)
{
    char json[512];
    made_t made;

    snprintf(json, sizeof(json), "{'post_processor':%s," MODEL "," PRE_BYTES "}", processor);
    made_open(&made, json);
    cr_expect_eq(ag_tokenizer_bos(made.tokenizer), bos, "%s", processor);
    cr_expect_eq(ag_tokenizer_after(made.tokenizer), after, "%s", processor);
    made_close(&made);
}

Test(read_folder, a_token_may_come_behind_a_text)
{
    expect_around("{'type':'TemplateProcessing','single':[{'Sequence':{'id':'A'}},"
                  "{'SpecialToken':{'id':'e'}}],'special_tokens':{'e':{'ids':[1]}}}",
                  -1, 1);
    expect_around("{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'s'}},"
                  "{'Sequence':{'id':'A'}},{'SpecialToken':{'id':'e'}}],"
                  "'special_tokens':{'e':{'ids':[1]},'s':{'ids':[2]}}}",
                  2, 1);
    expect_around("{'type':'RobertaProcessing','sep':['b',1],'cls':['a',0]}", 0, 1);
    expect_around("{'type':'BertProcessing','sep':['b',9],'cls':['a',-1]}", -1, -1);
}

Test(read_folder, the_eos_is_the_tokenizers_or_the_first_that_the_model_names)
{
    static const struct {
        const char *tokenizer, *model;
        int32_t eos;
    } rows[] = {{"{}", "{}", -1},
                {"{}", "{'eos_token_id':2}", 2},
                {"{}", "{'eos_token_id':[9,1,2]}", 1},
                {"{'eos_token':'<s>'}", "{'eos_token_id':[1,2]}", 3},
                {"{'eos_token':{'content':'ab'}}", "{}", 2},
                {"{'eos_token':'none'}", "{'eos_token_id':0}", 0}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        made_t made;

        folder_begin(&made);
        folder_write(&made, "tokenizer.json",
                     "{'added_tokens':[{'id':3,'content':'<s>'}]," MODEL "," PRE_BYTES "}");
        folder_write(&made, "tokenizer_config.json", rows[i].tokenizer);
        folder_write(&made, "config.json", rows[i].model);
        cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
        cr_expect_eq(ag_tokenizer_eos(made.tokenizer), rows[i].eos, "row %zu", i);
        made_close(&made);
    }
}

static uint64_t fingerprint(const char *json, const char *config)
{
    uint64_t found;
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", json);
    folder_write(&made, "tokenizer_config.json", config);
    cr_assert_eq(folder_open(&made), AG_OK, "%s", ag_error());
    found = ag_tokenizer_fingerprint(made.tokenizer);
    made_close(&made);
    return found;
}

Test(read_folder, whatever_changes_ids_or_the_template_changes_the_fingerprint)
{
    static const char *const others[][2] = {
        {"{'model':{'vocab':{'a':0,'b':1,'ab':2},'merges':[]}," PRE_BYTES "}", "{}"},
        {"{'model':{'vocab':{'a':1,'b':0,'ab':2},'merges':['a b']}," PRE_BYTES "}", "{}"},
        {"{'added_tokens':[{'id':3,'content':'c'}]," MODEL "," PRE_BYTES "}", "{}"},
        {"{" MODEL ",'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false}}", "{}"},
        {"{" MODEL ",'pre_tokenizer':{'type':'ByteLevel','use_regex':false}}", "{}"},
        {"{" MODEL "}", "{}"},
        {"{'normalizer':{'type':'NFC'}," MODEL "," PRE_BYTES "}", "{}"},
        {"{'normalizer':{'type':'Prepend','prepend':'a'}," MODEL "," PRE_BYTES "}", "{}"},
        {"{'model':{'vocab':{'a':0,'b':1,'ab':2},'merges':['a b'],'unk_token':'a'}," PRE_BYTES "}",
         "{}"},
        {PLAIN, "{'chat_template':'x'}"},
        {PLAIN, "{'eos_token':'a'}"}};
    uint64_t plain = fingerprint(PLAIN, "{}");

    cr_expect_eq(fingerprint(PLAIN, "{'unused':1}"), plain);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        cr_expect_neq(fingerprint(others[i][0], others[i][1]), plain, "other %zu", i);
    }
}

Test(read_folder, the_space_in_front_is_left_out_where_a_text_goes_on)
{
    made_t made;

    made_open(&made, "{'model':{'vocab':{'a':0,'\\u0120':1},'merges':[]},"
                     "'added_tokens':[{'id':2,'content':'<x>'}],"
                     "'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':true}}");
    expect_ids(made.tokenizer, "a", 0, "1 0");
    expect_ids(made.tokenizer, "a", AG_TOKEN_CONTINUES, "0");
    expect_ids(made.tokenizer, " a", AG_TOKEN_CONTINUES, "1 0");
    expect_ids(made.tokenizer, "<x>a", AG_TOKEN_CONTINUES, "2 1 0");
    expect_ids(made.tokenizer, "a<x>a", AG_TOKEN_CONTINUES, "0 2 1 0");
    made_close(&made);
}

Test(read_folder, damaged_files_beside_it_are_refused)
{
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", PLAIN);
    folder_write(&made, "tokenizer_config.json", "{");
    cr_expect_eq(folder_open(&made), AG_ERR_FORMAT);
    cr_expect_not_null(strstr(ag_error(), "tokenizer_config.json"));
    made_close(&made);
}
