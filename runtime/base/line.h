/* Text in a buffer of fixed size, such as the words of an error. */
#pragma once

#include <stddef.h>

/** Append to the text in the buffer, as much as there is room for. @param n_bytes  of the buffer.
 */
__attribute__((format(printf, 3, 4))) void ag_line_append(char *line, size_t n_bytes,
                                                          const char *format, ...);
