/* Tokenizers written as files of the other kind, and read from them. */
#define _GNU_SOURCE /* memmem */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "make_text.h"
#include "runtime/base/log.h"
#include "runtime/text/export.h"

#define SPACES "'normalizer':{'type':'Replace','pattern':{'String':' '},'content':'\u2581'}"

/* "ab" comes twice, "x" is unused, one merge is listed twice, one makes no token. */
static const char *const tokens[] = {"a", "b", "ab", "<e>", "\xc4\xa0", "x", "zz", "<s>", "ab"};
static const int32_t types[] = {1, 1, 1, 3, 1, 5, 4, 3, 1};
static const char *const merges[] = {"a b", "b q", "b a", "a b"};
static const char text[] = "ab a<e>xzz zab";
static const char ids[] = "2 4 0 3 6 4 2";

enum { N_TOKENS = 9 };

static void open_gguf(made_t *made)
{
    gguf_text_t gguf = {0};

    gguf_string(&gguf, "tokenizer.ggml.model", "gpt2", 4);
    gguf_string(&gguf, "tokenizer.ggml.pre", "smollm", 6);
    gguf_strings(&gguf, "tokenizer.ggml.tokens", tokens, N_TOKENS);
    gguf_integers(&gguf, "tokenizer.ggml.token_type", types, N_TOKENS);
    gguf_strings(&gguf, "tokenizer.ggml.merges", merges, 4);
    gguf_integer(&gguf, "tokenizer.ggml.bos_token_id", AG_GGUF_U32, 7);
    gguf_integer(&gguf, "tokenizer.ggml.eos_token_id", AG_GGUF_U32, 3);
    gguf_integer(&gguf, "tokenizer.ggml.eot_token_id", AG_GGUF_U32, 6);
    gguf_integer(&gguf, "tokenizer.ggml.padding_token_id", AG_GGUF_U32, 12); /* none there is */
    gguf_integer(&gguf, "tokenizer.ggml.add_bos_token", AG_GGUF_BOOL, 1);
    gguf_string(&gguf, "tokenizer.chat_template", "{{ \"hi\" }}", 10);
    cr_assert_eq(gguf_open(made, &gguf), AG_OK, "%s", ag_error());
}

static void expect_all(const ag_tokenizer_t *tokenizer)
{
    expect_ids(tokenizer, text, AG_TOKEN_SPECIAL, ids);
    expect_ids(tokenizer, "1 a22ab", 0, "4 0 2");
    cr_expect_eq(ag_tokenizer_bos(tokenizer), 7);
    cr_expect_eq(ag_tokenizer_eos(tokenizer), 3);
    cr_expect(ag_tokenizer_is_end(tokenizer, 3) && ag_tokenizer_is_end(tokenizer, 6));
    cr_expect(!ag_tokenizer_is_end(tokenizer, 7) && !ag_tokenizer_is_end(tokenizer, 0));
    cr_expect_str_eq(ag_tokenizer_chat_template(tokenizer), "{{ \"hi\" }}");
}

/* What the files of `from` say, as a folder, opened. */
static void open_as_folder(const made_t *from, made_t *to)
{
    ag_json_t *config = ag_json_new_object();
    ag_folder_t *folder;

    folder_begin(to);
    ag_tokenizer_to_config(from->files, config);
    cr_assert_eq(ag_folder_open(to->folder, &folder), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_tokenizer_to_folder(from->files, folder), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_folder_add_json(folder, "config.json", config), AG_OK);
    cr_assert_eq(ag_folder_complete(folder, NULL), AG_OK, "%s", ag_error());
    cr_assert_eq(folder_open(to), AG_OK, "%s", ag_error());
}

static void open_as_gguf(const made_t *from, uint32_t n_vocab, made_t *to)
{
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA;
    gguf_text_t gguf;

    cr_assert_eq(ag_tokenizer_to_gguf(from->files, n_vocab, &metadata), AG_OK, "%s", ag_error());
    gguf = (gguf_text_t){.bytes = metadata.bytes, .n_entries = metadata.n_entries};
    cr_assert_eq(gguf_open(to, &gguf), AG_OK, "%s", ag_error());
}

Test(export, a_gguf_files_tokenizer_becomes_a_folders_and_that_a_gguf_files)
{
    made_t gguf, folder, again, copy;

    open_gguf(&gguf);
    expect_all(gguf.tokenizer);
    open_as_folder(&gguf, &folder);
    expect_all(folder.tokenizer);
    open_as_gguf(&folder, 12, &again); /* rows of the embedding that no token has */
    expect_all(again.tokenizer);
    cr_expect_eq(ag_tokenizer_size(again.tokenizer), 12);
    open_as_gguf(&gguf, N_TOKENS, &copy);
    expect_all(copy.tokenizer);
    made_close(&gguf);
    made_close(&folder);
    made_close(&again);
    made_close(&copy);
}

/* A folder with ChatML and this generation_config.json; its tokens end in <a>, <b>, .. <e>. */
static void open_chat_folder(made_t *made, const char *generation)
{
    static const char chatml[] =
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\\n' }}{% endif %}";

    folder_begin(made);
    folder_write(made, "tokenizer.json",
                 "{'model':{'vocab':{'a':0},'merges':[]},'pre_tokenizer':{'type':'ByteLevel',"
                 "'add_prefix_space':false,'use_regex':true},'added_tokens':["
                 "{'id':1,'content':'<a>','special':true},{'id':2,'content':'<b>','special':true},"
                 "{'id':3,'content':'<c>','special':true},"
                 "{'id':4,'content':'<|im_end|>','special':true}]}");
    folder_write(made, "tokenizer_config.json", "{'eos_token':'<b>'}");
    folder_write(made, "generation_config.json", generation);
    file_write(made, "chat_template.jinja", chatml, strlen(chatml));
    cr_assert_eq(folder_open(made), AG_OK, "%s", ag_error());
}

Test(export, every_token_that_ends_an_answer_is_kept_the_chat_templates_too)
{
    made_t folder, gguf, again;
    ag_json_t *json;
    const ag_json_t *ends;
    char path[64];

    open_chat_folder(&folder, "{'eos_token_id':[1,2]}");
    open_as_gguf(&folder, 5, &gguf);
    for (int32_t id = 0; id < 5; id++) {
        cr_expect_eq(ag_tokenizer_is_end(gguf.tokenizer, id), id == 1 || id == 2 || id == 4, "%d",
                     id);
    }
    cr_expect_eq(ag_tokenizer_eos(gguf.tokenizer), 2);
    open_as_folder(&gguf, &again);
    snprintf(path, sizeof(path), "%s/generation_config.json", again.folder);
    cr_assert_eq(ag_json_read(path, &json), AG_OK, "%s", ag_error());
    ends = ag_json_get(json, "eos_token_id");
    cr_assert_eq(ag_json_size(ends), 3);
    cr_expect_eq(ag_json_integer(ag_json_at(ends, 0), -1), 2);
    cr_expect_eq(ag_json_integer(ag_json_at(ends, 1), -1), 4);
    cr_expect_eq(ag_json_integer(ag_json_at(ends, 2), -1), 1);
    cr_expect_str_eq(ag_tokenizer_chat_template(again.tokenizer),
                     ag_tokenizer_chat_template(folder.tokenizer));
    ag_json_destroy(json);
    made_close(&folder);
    made_close(&gguf);
    made_close(&again);
}

Test(export, chat_templates_of_other_names_are_kept)
{
    made_t folder, gguf, again;
    ag_json_t *json;
    const ag_json_t *list;
    char path[64];

    folder_begin(&folder);
    folder_write(&folder, "tokenizer.json",
                 "{'model':{'vocab':{'a':0},'merges':[]},'pre_tokenizer':{'type':'ByteLevel',"
                 "'add_prefix_space':false,'use_regex':true}}");
    folder_write(&folder, "tokenizer_config.json",
                 "{'chat_template':[{'name':'tool use','template':'T'},{'name':'tool_use',"
                 "'template':'U'},{'name':'default','template':'D'},{'name':'rag'}]}");
    cr_assert_eq(folder_open(&folder), AG_OK, "%s", ag_error());
    open_as_gguf(&folder, 1, &gguf);
    cr_expect_str_eq(ag_tokenizer_chat_template(gguf.tokenizer), "D");
    open_as_folder(&gguf, &again);
    cr_expect_str_eq(ag_tokenizer_chat_template(again.tokenizer), "D");
    snprintf(path, sizeof(path), "%s/tokenizer_config.json", again.folder);
    cr_assert_eq(ag_json_read(path, &json), AG_OK, "%s", ag_error());
    list = ag_json_get(json, "chat_template");
    cr_assert_eq(ag_json_size(list), 2);
    cr_expect_str_eq(ag_json_string(ag_json_get(ag_json_at(list, 1), "name"), NULL), "tool_use");
    cr_expect_str_eq(ag_json_string(ag_json_get(ag_json_at(list, 1), "template"), NULL), "T");
    ag_json_destroy(json);
    made_close(&folder);
    made_close(&gguf);
    made_close(&again);
}

Test(export, a_folders_tokenizer_is_copied_as_it_is)
{
    made_t folder, copy;
    char path[64];

    made_open(&folder, "{'model':{'type':'BPE','vocab':{'a':0},'merges':[]}," PRE_BYTES "}");
    folder_write(&folder, "special_tokens_map.json", "{'odd':1}");
    open_as_folder(&folder, &copy);
    expect_ids(copy.tokenizer, "aa", 0, "0 0");
    snprintf(path, sizeof(path), "%s/special_tokens_map.json", copy.folder);
    cr_expect_eq(access(path, F_OK), 0);
    unlink(path);
    snprintf(path, sizeof(path), "%s/special_tokens_map.json", folder.folder);
    unlink(path);
    made_close(&folder);
    made_close(&copy);
}

/* Does a text hold what the other kind of file cannot say? */
static bool holds(const char *bytes, size_t n, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (memmem(bytes, n, *words, strlen(*words)) != NULL) {
            return true;
        }
    }
    return false;
}

/* The ids that cases.jsonl of a tokenizer has, but for texts that hold one of the words. */
static void expect_cases(const ag_tokenizer_t *tokenizer, const char *name, const char *const *but)
{
    char path[512], *line = NULL;
    size_t capacity = 0, n_seen = 0;
    FILE *file;

    snprintf(path, sizeof(path), "%s/tokenizer/%s/cases.jsonl", AG_TEST_DATA, name);
    file = fopen(path, "r");
    cr_assert_not_null(file);
    while (getline(&line, &capacity, file) > 0) {
        ag_array_t found = AG_ARRAY(int32_t);
        ag_json_t *json;
        const ag_json_t *wanted;
        const char *bytes;
        size_t n;

        cr_assert_eq(ag_json_parse(line, strlen(line), path, &json), AG_OK);
        wanted = ag_json_get(json, "ids");
        bytes = ag_json_string(ag_json_get(json, "text"), &n);
        if (!holds(bytes, n, but)) {
            cr_assert_eq(ag_tokenizer_encode(tokenizer, bytes, n, AG_TOKEN_SPECIAL, &found, NULL),
                         AG_OK);
            cr_assert_eq(found.n_items, ag_json_size(wanted), "%s", line);
            for (size_t i = 0; i < found.n_items; i++) {
                cr_assert_eq(AG_ITEMS(&found, int32_t)[i],
                             ag_json_integer(ag_json_at(wanted, i), -1), "%s", line);
            }
            n_seen++;
        }
        ag_array_fini(&found);
        ag_json_destroy(json);
    }
    cr_expect_gt(n_seen, 100, "only %zu texts of %s", n_seen, name);
    free(line);
    fclose(file);
}

/* tokenizer.json, or model.gguf, of the test data. */
static void open_data(made_t *made, const char *name, const char *file)
{
    char path[512];

    folder_begin(made);
    snprintf(path, sizeof(path), "%s/tokenizer/%s/%s", AG_TEST_DATA, name, file);
    if (strcmp(file, "model.gguf") == 0) {
        cr_assert_eq(ag_model_files_open(path, &made->files), AG_OK, "%s", ag_error());
        cr_assert_eq(ag_tokenizer_open(made->files, &made->tokenizer), AG_OK, "%s", ag_error());
        return;
    }
    folder_copy(made, "tokenizer.json", path);
    cr_assert_eq(folder_open(made), AG_OK, "%s", ag_error());
}

/* From the one kind of file to the other and back: ids stay as they are. */
static void expect_there_and_back(const char *name, const char *file, const char *const *but)
{
    made_t source, there, back;

    open_data(&source, name, file);
    if (ag_model_files_gguf(source.files) != NULL) {
        open_as_folder(&source, &there);
        open_as_gguf(&there, ag_tokenizer_size(there.tokenizer) + 3, &back);
    } else {
        open_as_gguf(&source, ag_tokenizer_size(source.tokenizer) + 3, &there);
        open_as_folder(&there, &back);
    }
    expect_cases(there.tokenizer, name, but);
    expect_cases(back.tokenizer, name, but);
    cr_expect_eq(ag_tokenizer_bos(there.tokenizer), ag_tokenizer_bos(source.tokenizer));
    cr_expect_eq(ag_tokenizer_bos(back.tokenizer), ag_tokenizer_bos(source.tokenizer));
    cr_expect_eq(ag_tokenizer_after(there.tokenizer), ag_tokenizer_after(source.tokenizer));
    cr_expect_eq(ag_tokenizer_after(back.tokenizer), ag_tokenizer_after(source.tokenizer));
    made_close(&source);
    made_close(&there);
    made_close(&back);
}

/* <w> of folders looks at what stands beside it, and e with an accent at normalized text. */
Test(export, every_kind_of_folder_becomes_a_gguf_file_and_a_folder_again)
{
    static const char *const plain[] = {"<w>", "e\u0301x", NULL};
    static const char *const llama[] = {"<w>", "the cat", NULL};
    static const char *const gemma[] = {"<w>", "  ", " \u2581", "\u2581 ", "\u2581\u2581", NULL};
    static const char *const named[] = {"<w>", "<0x41>", NULL}; /* a word of Hugging Face's */

    expect_there_and_back("qwen2", "tokenizer.json", plain);
    expect_there_and_back("deepseek_llm", "tokenizer.json", plain);
    expect_there_and_back("deepseek_v3", "tokenizer.json", plain);
    expect_there_and_back("gpt4o", "tokenizer.json", plain);
    expect_there_and_back("tekken", "tokenizer.json", plain);
    expect_there_and_back("llama", "tokenizer.json", llama);
    expect_there_and_back("gemma", "tokenizer.json", gemma);
    expect_there_and_back("unigram_bytes", "tokenizer.json", named);
}

/* Maps look at graphemes in a folder. */
Test(export, every_kind_of_gguf_file_becomes_a_folder_and_a_gguf_file_again)
{
    static const char *const none[] = {"<0x41>", NULL};
    static const char *const maps[] = {"e\u0301", "ab", NULL};

    expect_there_and_back("sp_bpe", "model.gguf", none);
    expect_there_and_back("sp_bpe_plain", "model.gguf", none);
    expect_there_and_back("sp_unigram", "model.gguf", maps);
    expect_there_and_back("sp_unigram_bytes", "model.gguf", none);
}

static void keep_line(void *arg, ag_log_level_t level, const char *line)
{
    (void)level;
    snprintf(arg, 512, "%s", line);
}

/* What is said of a folder with this vocabulary, merges and added token, as a GGUF file; and the
 * ids of two spaces in both. */
static void expect_marks(const char *parts, bool told, const char *spaces, const char *spaces_there)
{
    char json[512], said[512] = "";
    made_t folder, gguf;

    snprintf(json, sizeof(json), "{" SPACES ",%s}", parts);
    made_open(&folder, json);
    ag_log_set_sink(keep_line, said);
    open_as_gguf(&folder, 3, &gguf);
    ag_log_set_sink(NULL, NULL);
    cr_expect_eq(strstr(said, "1 added tokens, the first \u2581\u2581, stand for marks") != NULL,
                 told, "%s: \"%s\"", parts, said);
    expect_ids(folder.tokenizer, "a  a", 0, spaces);
    expect_ids(gguf.tokenizer, "a  a", 0, spaces_there);
    made_close(&folder);
    made_close(&gguf);
}

Test(export, added_runs_of_marks_that_spaces_do_not_become_are_told)
{
    expect_marks("'model':{'type':'BPE','vocab':{'\u2581':0,'a':1},'merges':[]},'added_tokens':"
                 "[{'id':2,'content':'\u2581\u2581','normalized':false}]",
                 true, "1 0 0 1", "1 2 1");
    expect_marks("'model':{'type':'BPE','vocab':{'\u2581':0,'a':1},'merges':[]},'added_tokens':"
                 "[{'id':2,'content':'\u2581\u2581','normalized':true}]",
                 false, "1 2 1", "1 2 1");
    expect_marks("'model':{'type':'BPE','vocab':{'\u2581':0,'a':1,'\u2581\u2581':2},'merges':"
                 "['\u2581 \u2581']},'added_tokens':"
                 "[{'id':2,'content':'\u2581\u2581','normalized':false}]",
                 false, "1 2 1", "1 2 1");
}

static void expect_no_gguf(const char *json, uint32_t n_vocab, ag_status_t status,
                           const char *words)
{
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA;
    made_t made;

    made_open(&made, json);
    cr_expect_eq(ag_tokenizer_to_gguf(made.files, n_vocab, &metadata), status);
    cr_expect_not_null(strstr(ag_error(), words), "\"%s\" does not say \"%s\"", ag_error(), words);
    ag_gguf_metadata_fini(&metadata);
    made_close(&made);
}

Test(export, what_gguf_files_cannot_say_is_refused)
{
    static const char gpt2[] = "'pre_tokenizer':{'type':'ByteLevel','add_prefix_space':false}";
    char json[256];

    expect_no_gguf("{'model':{'type':'BPE','vocab':{'a':0},'merges':[]}," PRE_BYTES "}", 1,
                   AG_ERR_UNSUPPORTED, "no name for such a pre-tokenizer");
    snprintf(json, sizeof(json), "{'model':{'type':'BPE','vocab':{'a':0,'b':7},'merges':[]},%s}",
             gpt2);
    expect_no_gguf(json, 7, AG_ERR_FORMAT, "token 7 is none of the model's vocabulary of 7");
    expect_no_gguf("{'normalizer':{'type':'NFC'},'model':{'type':'BPE','vocab':{'a':0},'merges':"
                   "[]}}",
                   1, AG_ERR_UNSUPPORTED, "no name for such a normalizer");
    expect_no_gguf("{" SPACES ",'model':{'type':'BPE','vocab':{'a':0,'b':1,'ab':2,'abb':3,'bb':4},"
                   "'merges':['a b','b b','ab b']}}",
                   5, AG_ERR_UNSUPPORTED, "not every two tokens that make it become \"abb\"");
    expect_no_gguf("{" SPACES ",'model':{'type':'BPE','vocab':{'a':0,'b':1,'ab':2,'abb':3,'bb':4},"
                   "'merges':['ab b','a b','a bb','b b']}}",
                   5, AG_ERR_UNSUPPORTED, "other merges come between those that make \"abb\"");
}
