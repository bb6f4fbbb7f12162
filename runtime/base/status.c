#include "runtime/base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { RECORD_BYTES = 2048 };

static _Thread_local char record[RECORD_BYTES];

const char *ag_status_name(ag_status_t status)
{
    switch (status) {
    case AG_OK:
        return "OK";
    case AG_PENDING:
        return "PENDING";
    case AG_ERR_INVALID:
        return "ERR_INVALID";
    case AG_ERR_NOMEM:
        return "ERR_NOMEM";
    case AG_ERR_UNSUPPORTED:
        return "ERR_UNSUPPORTED";
    case AG_ERR_BUDGET:
        return "ERR_BUDGET";
    case AG_ERR_IO:
        return "ERR_IO";
    case AG_ERR_FORMAT:
        return "ERR_FORMAT";
    case AG_ERR_PEER:
        return "ERR_PEER";
    case AG_ERR_TIMEOUT:
        return "ERR_TIMEOUT";
    case AG_ERR_INTERRUPTED:
        return "ERR_INTERRUPTED";
    }
    return "unknown status";
}

ag_status_t ag_fail(ag_status_t status, const char *format, ...)
{
    char text[RECORD_BYTES]; /* the arguments may point into the record */
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    memcpy(record, text, sizeof(record));
    return status;
}

ag_status_t ag_fail_context(ag_status_t status, const char *format, ...)
{
    char text[2 * RECORD_BYTES];
    va_list args;
    int n_chars;

    va_start(args, format);
    n_chars = vsnprintf(text, RECORD_BYTES, format, args);
    va_end(args);
    n_chars = n_chars < 0 ? 0 : n_chars >= RECORD_BYTES ? RECORD_BYTES - 1 : n_chars;
    snprintf(text + n_chars, sizeof(text) - (size_t)n_chars, ": %s", record);
    memcpy(record, text, sizeof(record));
    record[sizeof(record) - 1] = '\0';
    return status;
}

const char *ag_error(void)
{
    return record;
}

ag_status_t ag_fail_open(const char *path)
{
    int error = errno;
    const char *remedy = error == ENOENT || error == ENOTDIR ? ": check the path"
                         : error == EACCES || error == EPERM ? ": make it readable for this user"
                                                             : "";

    return ag_fail(AG_ERR_IO, "opening %s: %s%s", path, strerror(error), remedy);
}

ag_status_t ag_fail_nomem(const char *what, unsigned long long n_bytes)
{
    return ag_fail(AG_ERR_NOMEM, "%s: the system refused %llu bytes of memory", what, n_bytes);
}
