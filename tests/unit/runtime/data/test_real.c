/* A real text and a real model's tokenizer, against ids that others made. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_data.h"
#include "runtime/base/json.h"
#include "runtime/file/npy.h"

static const char *smollm2(void)
{
    const char *path = getenv("ARGOSY_SMOLLM2");

    cr_assert_not_null(path, "ARGOSY_SMOLLM2 names the file; tests/run.sh sets it");
    return path;
}

/* ppl.ids.npy: the first 4096 tokens of the text, by transformers. */
Test(real, a_texts_tokens_are_those_of_the_reference)
{
    enum { LENGTH = 512, ROWS = 7 };
    int32_t *ids;
    size_t n;
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    batch_t batch;
    room_t room;

    room_open_file(&room, smollm2());
    cr_assert_eq(ag_npy_read_ids(AG_TEST_DATA "/real/smollm2/ppl.ids.npy", &ids, &n), AG_OK);
    cr_assert_geq(n, ROWS * LENGTH + 1);
    opts = room_opts(&room, AG_TEST_DATA "/real/ppl_text.txt", LENGTH);
    opts.order = AG_DATA_IN_ORDER;
    dataset = open_data(&opts);
    cr_expect_eq(ag_dataset_counts(dataset).replaced, 0);
    batch_open(&batch, ROWS, LENGTH);
    batch_read(&batch, dataset, ag_dataset_start(dataset));
    batch_check(&batch, opts.vocab_size);
    cr_expect_arr_eq(batch.rows.tokens, ids, ROWS * LENGTH * 4);
    cr_expect_arr_eq(batch.rows.targets, ids + 1, ROWS * LENGTH * 4);
    batch_close(&batch);
    ag_dataset_close(dataset);
    free(ids);
    room_close(&room);
}

#define SYSTEM "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
#define WHOLE                                                                                      \
    "<|im_start|>system\n" SYSTEM "<|im_end|>\n<|im_start|>user\nName a colour.<|im_end|>\n"       \
    "<|im_start|>assistant\nBlue.<|im_end|>\n<|im_start|>user\nAnother.<|im_end|>\n"               \
    "<|im_start|>assistant\nRed.<|im_end|>"

/* The template puts a system turn first; an answer ends in <|im_end|>, which is the EOS. */
Test(real, of_a_dialogue_the_answers_are_learned)
{
    ag_array_t text = AG_ARRAY(char), whole;
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    room_t room;

    room_open_file(&room, smollm2());
    opts = room_opts(&room,
                     room_lines(&room, "d.jsonl",
                                "{'messages':[{'role':'user','content':'Name a colour.'},"
                                "{'role':'assistant','content':'Blue.'},"
                                "{'role':'user','content':'Another.'},"
                                "{'role':'assistant','content':'Red.'}]}"),
                     128);
    dataset = open_data(&opts);
    cr_assert_eq(ag_dataset_show(dataset, ag_dataset_start(dataset), 0, &text), AG_OK);
    cr_assert_eq(ag_array_append(&text, "", 1), AG_OK);
    cr_expect_str_eq(
        text.items,
        "document 1: 52 tokens, 6 of them learned\n" AG_DATA_MASK_BEGIN
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nName a "
        "colour.<|im_end|>\n<|im_start|>assistant\n" AG_DATA_MASK_END
        "Blue.<|im_end|>" AG_DATA_MASK_BEGIN
        "\n<|im_start|>user\nAnother.<|im_end|>\n<|im_start|>assistant\n" AG_DATA_MASK_END
        "Red.<|im_end|>\n");
    /* in parts or whole, it is the same tokens */
    whole = ids_of(room.tokenizer, WHOLE);
    cr_expect_eq(whole.n_items, ag_dataset_counts(dataset).tokens);
    ag_array_fini(&whole);
    ag_array_fini(&text);
    ag_dataset_close(dataset);
    room_close(&room);
}

#define EXAMPLES AG_TEST_DATA "/../../../examples/data/"

Test(real, the_examples_are_data_to_train_on)
{
    static const char *const paths[] = {EXAMPLES "texts.jsonl", EXAMPLES "samples.jsonl",
                                        EXAMPLES "dialogues.jsonl", EXAMPLES "story.txt"};
    ag_dataset_opts_t opts;
    ag_dataset_counts_t counts;
    ag_dataset_t *dataset;
    room_t room;

    room_open_file(&room, smollm2());
    opts = room_opts(&room, NULL, 128);
    opts.paths = paths;
    opts.n_paths = 4;
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.documents, 3 + 3 + 2 + 1);
    cr_expect_eq(counts.pieces, counts.documents);
    cr_expect_eq(counts.cut + counts.split + counts.replaced + counts.without_target, 0);
    ag_dataset_close(dataset);
    room_close(&room);
}

/* The lines of a text file, each as an object of JSON. */
static const char *write_lines(const room_t *room, const char *path)
{
    ag_array_t lines = AG_ARRAY(char);
    FILE *file = fopen(path, "rb");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    const char *written;

    cr_assert_not_null(file);
    while ((n = getline(&line, &capacity, file)) > 0) {
        ag_json_t *json = ag_json_new_object();
        char *text;

        ag_json_set(json, "text", ag_json_new_string(line, (size_t)n));
        cr_assert_eq(ag_json_text(json, AG_JSON_LINE, &text), AG_OK);
        cr_assert_eq(ag_array_append(&lines, text, strlen(text)), AG_OK);
        cr_assert_eq(ag_array_append(&lines, "\n", 1), AG_OK);
        free(text);
        ag_json_destroy(json);
    }
    free(line);
    fclose(file);
    written = room_write(room, "lines.jsonl", lines.items, lines.n_items);
    ag_array_fini(&lines);
    return written;
}

Test(real, a_real_texts_lines_are_packed_and_none_is_lost)
{
    ag_dataset_opts_t opts;
    ag_dataset_counts_t counts;
    ag_dataset_t *dataset;
    batch_t batch;
    room_t room;

    room_open_file(&room, smollm2());
    opts = room_opts(&room, write_lines(&room, AG_TEST_DATA "/real/ppl_text.txt"), 256);
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.row_tokens, counts.tokens - counts.documents);
    cr_expect_leq(counts.rows, counts.row_tokens / 256 + 1, "%lu rows for %lu tokens",
                  (unsigned long)counts.rows, (unsigned long)counts.row_tokens);
    batch_open(&batch, (uint32_t)counts.rows * 2, 256);
    batch_read(&batch, dataset, ag_dataset_start(dataset));
    batch_check(&batch, opts.vocab_size);
    batch_close(&batch);
    ag_dataset_close(dataset);
    room_close(&room);
}
