#include "runtime/file/input_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREAD_MAX_BYTES = 1 << 30, START_BYTES = 4 };

ag_status_t ag_file_open(const char *path, int *fd_p, uint64_t *file_bytes_p)
{
    struct stat info;
    ag_status_t status;
    int fd;

    /* O_NONBLOCK: a pipe is refused below instead of waited for. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return ag_fail_open(path);
    }
    if (fstat(fd, &info) != 0) {
        status = ag_fail(AG_ERR_IO, "looking at %s: %s", path, strerror(errno));
        goto close_fd;
    }
    if (!S_ISREG(info.st_mode)) {
        status = ag_fail(AG_ERR_IO, "%s is %s: give a file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a device or a pipe");
        goto close_fd;
    }
    *fd_p = fd;
    *file_bytes_p = (uint64_t)info.st_size;
    return AG_OK;

close_fd:
    close(fd);
    return status;
}

ag_status_t ag_file_pread(int fd, const char *path, const char *part, uint64_t offset_bytes,
                          uint64_t n_bytes, void *dst)
{
    unsigned char *to = dst;
    uint64_t done = 0;

    while (done < n_bytes) {
        uint64_t left = n_bytes - done;
        size_t ask = left < PREAD_MAX_BYTES ? (size_t)left : PREAD_MAX_BYTES;
        ssize_t got = pread(fd, to + done, ask, (off_t)(offset_bytes + done));

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return ag_fail(AG_ERR_IO, "reading %s (%s) at byte %llu: %s", path, part,
                           (unsigned long long)(offset_bytes + done), strerror(errno));
        }
        if (got == 0) {
            return ag_fail(
                AG_ERR_IO,
                "reading %s (%s): the file ends at byte %llu, %llu bytes too early; was it "
                "changed while in use?",
                path, part, (unsigned long long)(offset_bytes + done), (unsigned long long)left);
        }
        done += (uint64_t)got;
    }
    return AG_OK;
}

ag_status_t ag_input_open(ag_input_t *input, const char *path)
{
    ag_status_t status;

    *input = (ag_input_t){.path = path, .part = "the header"};
    input->window = malloc(AG_INPUT_WINDOW_BYTES);
    if (input->window == NULL) {
        return ag_fail_nomem(path, AG_INPUT_WINDOW_BYTES);
    }
    status = ag_file_open(path, &input->fd, &input->file_bytes);
    if (status != AG_OK) {
        free(input->window);
    }
    return status;
}

void ag_input_close(ag_input_t *input)
{
    close(input->fd);
    free(input->window);
}

void ag_input_name_part(ag_input_t *input, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(input->part, sizeof(input->part), format, args);
    va_end(args);
}

ag_status_t ag_input_expect(const ag_input_t *input, uint64_t n, uint64_t item_bytes)
{
    uint64_t left = ag_input_left_bytes(input);

    if (n <= left / item_bytes) {
        return AG_OK;
    }
    if (item_bytes == 1) {
        return ag_fail(AG_ERR_FORMAT,
                       "%s: truncated or damaged in %s: it needs %llu bytes from byte %llu on, the "
                       "file has %llu",
                       input->path, input->part, (unsigned long long)n,
                       (unsigned long long)input->at_bytes, (unsigned long long)input->file_bytes);
    }
    return ag_fail(
        AG_ERR_FORMAT,
        "%s: truncated or damaged in %s: %llu items of at least %llu bytes from byte %llu "
        "on, the file has %llu bytes",
        input->path, input->part, (unsigned long long)n, (unsigned long long)item_bytes,
        (unsigned long long)input->at_bytes, (unsigned long long)input->file_bytes);
}

static ag_status_t refill(ag_input_t *input)
{
    uint64_t left = ag_input_left_bytes(input);
    size_t n_bytes = left < AG_INPUT_WINDOW_BYTES ? (size_t)left : AG_INPUT_WINDOW_BYTES;
    ag_status_t status =
        ag_file_pread(input->fd, input->path, input->part, input->at_bytes, n_bytes, input->window);

    input->window_begin = 0;
    input->window_end = status == AG_OK ? n_bytes : 0;
    return status;
}

ag_status_t ag_input_take(ag_input_t *input, void *dst, size_t n_bytes)
{
    unsigned char *to = dst;
    ag_status_t status = ag_input_expect(input, n_bytes, 1);

    while (status == AG_OK && n_bytes > 0) {
        size_t ready = input->window_end - input->window_begin;
        size_t take = ready < n_bytes ? ready : n_bytes;

        if (ready == 0 && n_bytes >= AG_INPUT_WINDOW_BYTES) {
            take = n_bytes;
            status = ag_file_pread(input->fd, input->path, input->part, input->at_bytes, take, to);
        } else if (ready == 0) {
            status = refill(input);
            continue;
        } else {
            memcpy(to, input->window + input->window_begin, take);
            input->window_begin += take;
        }
        input->at_bytes += take;
        to += take;
        n_bytes -= take;
    }
    return status;
}

ag_status_t ag_input_refuse(const ag_input_t *input, const char *why)
{
    unsigned char start[START_BYTES];
    char text[5 * START_BYTES] = "";
    size_t n_bytes = input->file_bytes < START_BYTES ? (size_t)input->file_bytes : START_BYTES;
    size_t used = 0;
    ag_status_t status;

    if (n_bytes == 0) {
        return ag_fail(AG_ERR_FORMAT, "%s %s (it is empty)", input->path, why);
    }
    status = ag_file_pread(input->fd, input->path, "the first bytes", 0, n_bytes, start);
    if (status != AG_OK) {
        return status;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        const char *format = start[i] >= 0x20 && start[i] < 0x7f ? "%c" : "\\x%02x";

        used += (size_t)snprintf(text + used, sizeof(text) - used, format, start[i]);
    }
    return ag_fail(AG_ERR_FORMAT, "%s %s (it begins with \"%s\")", input->path, why, text);
}
