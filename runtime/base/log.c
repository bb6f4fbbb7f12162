#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdio.h>

static ag_log_sink_t log_sink;
static void *log_arg;

void ag_log_set_sink(ag_log_sink_t sink, void *arg)
{
    log_sink = sink;
    log_arg = arg;
}

void ag_log(ag_log_level_t level, const char *format, ...)
{
    char line[2048];
    va_list args;

    if (log_sink == NULL) {
        return;
    }
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    log_sink(log_arg, level, line);
}
