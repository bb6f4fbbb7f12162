/* Status codes and the record of what failed. */
#pragma once

#include <stdbool.h>

typedef enum ag_status {
    AG_OK = 0,
    AG_PENDING = 1,
    AG_ERR_INVALID = -1,      /* this call only: the argument or the option is wrong */
    AG_ERR_NOMEM = -2,        /* the operating system refused memory */
    AG_ERR_UNSUPPORTED = -3,  /* well-formed, but nothing here can do it */
    AG_ERR_BUDGET = -4,       /* does not fit the memory budget */
    AG_ERR_IO = -20,          /* this rank: file, device */
    AG_ERR_FORMAT = -21,      /* this rank: a file's content is damaged or not what it should be */
    AG_ERR_PEER = -40,        /* the group: a rank failed */
    AG_ERR_TIMEOUT = -41,     /* the group: an operation is late */
    AG_ERR_INTERRUPTED = -60, /* the user asked to stop */
} ag_status_t;

/** The constant's name without its prefix, as in "ERR_IO". */
const char *ag_status_name(ag_status_t status);

/**
 * Record a failure where it is detected: what was being done, to what, what to do.
 * The record is the calling thread's own and is replaced by the next failure.
 * @return status, so that a caller can write `return ag_fail(AG_ERR_IO, …)`.
 */
ag_status_t ag_fail(ag_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** Put "context: " before the thread's record; returns status. */
ag_status_t ag_fail_context(ag_status_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** The thread's record; "" before the first failure. Valid until the next failure on this thread.
 */
const char *ag_error(void);

/** Shorthand for a file that cannot be opened, as errno has it: AG_ERR_IO. */
ag_status_t ag_fail_open(const char *path);

/** Shorthand for an allocation of n_bytes that failed while doing `what`. */
ag_status_t ag_fail_nomem(const char *what, unsigned long long n_bytes);
