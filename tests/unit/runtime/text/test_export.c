/* Tokenizers written as files of the other kind, and read from them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "make_text.h"
#include "runtime/text/export.h"

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
}
