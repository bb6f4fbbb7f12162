#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/xxh64.h"
#include "runtime/data/files_priv.h"

enum { START_BYTES = 4096 };

typedef struct kind_row {
    const char *ending;
    ag_data_kind_t kind;
} kind_row_t;

/* What a name says, where the content leaves it open. */
static const kind_row_t kinds[] = {
    {".jsonl", AG_DATA_LINES}, {".ndjson", AG_DATA_LINES}, {".json", AG_DATA_LINES},
    {".txt", AG_DATA_TEXT},    {".text", AG_DATA_TEXT},    {".md", AG_DATA_TEXT},
};

typedef struct foreign_row {
    const char *begins;
    const char *what;
} foreign_row_t;

/* What a user may give, and is told to turn into one of ours. */
static const foreign_row_t foreign[] = {
    {"\x1f\x8b", "gzip data: unpack it"},
    {"PK\x03\x04", "a zip archive: unpack it"},
    {"\x28\xb5\x2f\xfd", "zstd data: unpack it"},
    {"\xfd"
     "7zXZ",
     "xz data: unpack it"},
    {"BZh", "bzip2 data: unpack it"},
    {"PAR1", "a Parquet file: write it as JSON lines"},
    {"ARROW1", "an Arrow file: write it as JSON lines"},
    {"\xff\xfe", "UTF-16: write it as UTF-8"},
    {"\xfe\xff", "UTF-16: write it as UTF-8"},
};

static bool begins_with(const char *start, size_t n_start, const char *what)
{
    return n_start >= strlen(what) && memcmp(start, what, strlen(what)) == 0;
}

static bool ends_with(const char *path, const char *ending)
{
    size_t n_path = strlen(path), n_ending = strlen(ending);

    return n_path > n_ending && strcmp(path + n_path - n_ending, ending) == 0;
}

static ag_status_t find_kind(ag_data_file_t *file)
{
    char start[START_BYTES];
    ssize_t got = pread(file->fd, start, sizeof(start), 0);
    size_t n = got > 0 ? (size_t)got : 0, at = 0;

    if (got <= 0) {
        return got < 0
                   ? ag_fail(AG_ERR_IO, "reading %s: %s", file->path, strerror(errno))
                   : ag_fail(AG_ERR_FORMAT, "%s is empty: there is nothing to learn", file->path);
    }
    if (begins_with(start, n, "\x93NUMPY")) {
        file->kind = AG_DATA_IDS;
        return AG_OK;
    }
    for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++) {
        if (begins_with(start, n, foreign[i].begins)) {
            return ag_fail(AG_ERR_FORMAT, "%s is %s (JSON lines, plain text and .npy are read)",
                           file->path, foreign[i].what);
        }
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (ends_with(file->path, kinds[i].ending)) {
            file->kind = kinds[i].kind;
            return AG_OK;
        }
    }
    if (ends_with(file->path, ".npy")) {
        return ag_fail(AG_ERR_FORMAT, "%s is not a .npy file, for all its name", file->path);
    }
    while (at < n && strchr(" \t\r\n", start[at]) != NULL && start[at] != '\0') {
        at++;
    }
    file->kind = at < n && start[at] == '{' ? AG_DATA_LINES : AG_DATA_TEXT;
    return AG_OK;
}

static ag_status_t read_stamp(const ag_data_file_t *file, ag_data_stamp_t *stamp)
{
    struct stat info;

    if (fstat(file->fd, &info) != 0) {
        return ag_fail(AG_ERR_IO, "looking at %s: %s", file->path, strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return ag_fail(AG_ERR_IO, "%s is %s", file->path,
                       S_ISDIR(info.st_mode) ? "a folder: give the files in it"
                                             : "no regular file: write the data to one");
    }
    stamp->n_bytes = (uint64_t)info.st_size;
    stamp->modified_ns = info.st_mtim.tv_sec * 1000000000LL + info.st_mtim.tv_nsec;
    stamp->changed_ns = info.st_ctim.tv_sec * 1000000000LL + info.st_ctim.tv_nsec;
    return AG_OK;
}

ag_status_t ag_data_file_open(const char *path, ag_data_file_t *file)
{
    ag_status_t status;

    /* O_NONBLOCK: opening a pipe would wait for a writer, for ever maybe */
    *file = (ag_data_file_t){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file->fd < 0) {
        return ag_fail_open(path);
    }
    file->stamp.hash = AG_HASH_SEED;
    status = read_stamp(file, &file->stamp);
    if (status == AG_OK) {
        status = find_kind(file);
    }
    if (status != AG_OK) {
        close(file->fd);
    }
    return status;
}

void ag_data_file_close(ag_data_file_t *file)
{
    close(file->fd);
}

ag_status_t ag_data_file_block(ag_data_file_t *file, ag_array_t *bytes, bool *end_p)
{
    size_t had = bytes->n_items, n = 0;
    ag_status_t status = ag_array_append(bytes, NULL, AG_DATA_BLOCK_BYTES);
    ssize_t got = 1;
    uint64_t sum;

    while (status == AG_OK && got > 0 && n < AG_DATA_BLOCK_BYTES) {
        got = pread(file->fd, AG_ITEMS(bytes, char) + had + n, AG_DATA_BLOCK_BYTES - n,
                    (off_t)(file->at_bytes + n));
        if (got < 0 && errno == EINTR) {
            got = 1;
            continue;
        }
        if (got < 0) {
            status = ag_fail(AG_ERR_IO, "reading %s at byte %llu: %s", file->path,
                             (unsigned long long)(file->at_bytes + n), strerror(errno));
        } else {
            n += (size_t)got;
        }
    }
    if (status != AG_OK) {
        return status;
    }
    bytes->n_items = had + n;
    sum = ag_xxh64(AG_ITEMS(bytes, char) + had, n);
    file->stamp.hash = ag_hash_bytes(file->stamp.hash, &sum, sizeof(sum));
    file->at_bytes += n;
    *end_p = n < AG_DATA_BLOCK_BYTES;
    return AG_OK;
}

ag_status_t ag_data_file_check(const ag_data_file_t *file)
{
    ag_data_stamp_t now = {0};
    ag_status_t status = read_stamp(file, &now);

    if (status != AG_OK) {
        return status;
    }
    if (now.n_bytes != file->at_bytes || now.n_bytes != file->stamp.n_bytes ||
        now.modified_ns != file->stamp.modified_ns) {
        return ag_fail(AG_ERR_IO, "%s was changed while it was read: start again", file->path);
    }
    return AG_OK;
}
