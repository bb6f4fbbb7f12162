/* The logger: libraries hand it a line, launch/ decides where the line goes. */
#pragma once

typedef enum ag_log_level { AG_LOG_WARNING, AG_LOG_INFO, AG_LOG_DEBUG } ag_log_level_t;

/** Called with one line, without line feed. May be called from any thread. */
typedef void (*ag_log_sink_t)(void *arg, ag_log_level_t level, const char *line);

/** Install the sink; before that, lines are dropped. Call once, before threads start. */
void ag_log_set_sink(ag_log_sink_t sink, void *arg);

void ag_log(ag_log_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));
