#include "runtime/base/line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void ag_line_append(char *line, size_t n_bytes, const char *format, ...)
{
    size_t n_chars = strlen(line);
    va_list args;

    va_start(args, format);
    vsnprintf(line + n_chars, n_bytes - n_chars, format, args);
    va_end(args);
}
