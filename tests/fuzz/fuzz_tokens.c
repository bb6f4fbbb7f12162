/*
 * Files of what was tokenized. Their checksums would keep the fuzzer out, so they are put right
 * first: whatever such a file says of itself, what is read of it lies in it, or it is refused.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/base/hash.h"
#include "runtime/base/xxh64.h"
#include "runtime/data/dataset_priv.h"

enum { LENGTH = 7, VOCAB = 1000, MOST_ROWS = 64, KEY = 5 };

/* The file's end is a foot with the hashes of what comes before. */
static void mend(uint8_t *bytes, size_t n_bytes)
{
    size_t n_body = n_bytes - sizeof(ag_cache_foot_t);
    ag_cache_foot_t foot;

    memcpy(&foot, bytes + n_body, sizeof(foot));
    foot.key = KEY;
    foot.version = AG_CACHE_VERSION;
    memcpy(foot.magic, AG_CACHE_MAGIC, sizeof(foot.magic));
    foot.body_hash = AG_HASH_SEED;
    if (n_body > 0) {
        foot.body_hash = ag_cache_hash(foot.body_hash, bytes, n_body);
    }
    foot.foot_hash = ag_xxh64(&foot, offsetof(ag_cache_foot_t, foot_hash));
    memcpy(bytes + n_body, &foot, sizeof(foot));
}

static void use_rows(ag_dataset_t *dataset)
{
    int32_t numbers[3][MOST_ROWS * LENGTH];
    uint32_t counts[2][MOST_ROWS];
    ag_data_rows_t rows = {.tokens = numbers[0],
                           .targets = numbers[1],
                           .positions = numbers[2],
                           .n_tokens = counts[0],
                           .n_targets = counts[1]};
    uint64_t n = dataset->packing.n_rows < MOST_ROWS ? dataset->packing.n_rows : MOST_ROWS;
    ag_array_t text = AG_ARRAY(char);

    dataset->counts.rows = dataset->packing.n_rows;
    if (ag_dataset_read(dataset, ag_dataset_start(dataset), n, &rows) == AG_OK) {
        for (size_t i = 0; i < n * LENGTH; i++) {
            expect(numbers[0][i] >= 0 && numbers[0][i] < VOCAB);
            expect(numbers[1][i] >= -1 && numbers[1][i] < VOCAB);
        }
        expect(ag_dataset_show(dataset, ag_dataset_start(dataset), 0, &text) == AG_OK);
    }
    ag_array_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    ag_dataset_t dataset = {
        .vocab_size = VOCAB, .seq_length = LENGTH, .pieces = AG_ARRAY(ag_data_piece_t)};
    char path[MEMORY_PATH_BYTES];
    uint8_t *mended;
    int fd;

    if (n_bytes < sizeof(ag_cache_foot_t)) {
        return 0;
    }
    mended = malloc(n_bytes);
    expect(mended != NULL);
    memcpy(mended, bytes, n_bytes);
    mend(mended, n_bytes);
    fd = memory_file(mended, n_bytes, path);
    if (ag_cache_open(path, KEY, NULL, NULL, &dataset.cache) == AG_OK) {
        if (ag_data_cut(&dataset) == AG_OK && dataset.pieces.n_items > 0) {
            expect(ag_pack(dataset.pieces.items, (uint32_t)dataset.pieces.n_items, LENGTH, NULL,
                           NULL, &dataset.packing) == AG_OK);
            use_rows(&dataset);
        }
    } else {
        expect(strchr(ag_error(), '\n') == NULL);
    }
    ag_packing_fini(&dataset.packing);
    ag_array_fini(&dataset.pieces);
    ag_cache_close(dataset.cache);
    close(fd);
    free(mended);
    return 0;
}
