/* How the known chat templates render: each is a row. Sources: the templates that the models were
 * published with. */
#include "runtime/text/chat_priv.h"

#define IM_START "<|im_start|>"
#define IM_TURNS                                                                                   \
    .system = {IM_START "system\n", "<|im_end|>", "\n"},                                           \
    .user = {IM_START "user\n", "<|im_end|>", "\n"},                                               \
    .assistant = {IM_START "assistant\n", "<|im_end|>", "\n"}
#define IM_PROMPT IM_START "assistant\n"
#define NO_THOUGHTS "<think>\n\n</think>\n\n"

#define LLAMA3_HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define LLAMA3_KNOWS(date)                                                                         \
    LLAMA3_HEADER("system") "Cutting Knowledge Date: December 2023\nToday Date: " date "\n\n"
#define LLAMA3_TURNS                                                                               \
    .user = {LLAMA3_HEADER("user"), "<|eot_id|>", ""},                                             \
    .assistant = {LLAMA3_HEADER("assistant"), "<|eot_id|>", ""},                                   \
    .prompt = LLAMA3_HEADER("assistant")

#define GEMMA_TURNS                                                                                \
    .user = {"<start_of_turn>user\n", "<end_of_turn>", "\n"},                                      \
    .assistant = {"<start_of_turn>model\n", "<end_of_turn>", "\n"},                                \
    .prompt = "<start_of_turn>model\n"

#define PHI3_TURNS                                                                                 \
    .system = {"<|system|>\n", "<|end|>", "\n"}, .user = {"<|user|>\n", "<|end|>", "\n"},          \
    .assistant = {"<|assistant|>\n", "<|end|>", "\n"}, .prompt = "<|assistant|>\n",                \
    .close = "{eos}"

#define DEEPSEEK3_TURNS                                                                            \
    .user = {"<｜User｜>", "", ""}, .assistant = {"<｜Assistant｜>", "<｜end▁of▁sentence｜>", ""}

#define DEEPSEEK3_ASKS                                                                             \
    .user = {"<｜User｜>", "<｜Assistant｜>", ""}, .assistant = {"", "<｜end▁of▁sentence｜>", ""}, \
    .prompt = "<｜Assistant｜>"

#define TEKKEN_DATED "[SYSTEM_PROMPT]{text0}{date}{text1}[/SYSTEM_PROMPT]"
#define TEKKEN_TURNS                                                                               \
    .system = {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", ""}, .user = {"[INST]", "[/INST]", ""},      \
    .assistant = {"", "{eos}", ""}

#define SMOLLM3_THINKS                                                                             \
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face. Your role as "          \
    "an assistant involves thoroughly exploring questions through a systematic thinking "          \
    "process before providing the final precise and accurate solutions. This requires "            \
    "engaging in a comprehensive cycle of analysis, summarizing, exploration, "                    \
    "reassessment, reflection, backtracking, and iteration to develop well-considered "            \
    "thinking process. Please structure your response into two main sections: Thought "            \
    "and Solution using the specified format: <think> Thought section </think> Solution "          \
    "section. In the Thought section, detail your reasoning process in steps. Each step "          \
    "should include detailed considerations such as analysing questions, summarizing "             \
    "relevant findings, brainstorming new ideas, verifying the accuracy of the current "           \
    "steps, refining any errors, and revisiting previous steps. In the Solution section, "         \
    "based on various attempts, explorations, and reflections from the Thought section, "          \
    "systematically present the final solution that you deem correct. The Solution "               \
    "section should be logical, accurate, and concise and detail necessary steps needed "          \
    "to reach the conclusion.\n\n"

const ag_chat_style_t ag_chat_styles[AG_N_CHAT_STYLES] = {
    [AG_CHAT_CHATML] = {.name = "chatml",
                        .sign = IM_START,
                        .no_system = IM_START "system\n{text0}<|im_end|>\n",
                        IM_TURNS,
                        .prompt = IM_PROMPT},
    [AG_CHAT_QWEN25] = {.name = "qwen2.5",
                        .no_system = IM_START "system\n{text0}<|im_end|>\n",
                        .text = "You are Qwen, created by Alibaba Cloud. You are a helpful "
                                "assistant.",
                        IM_TURNS,
                        .prompt = IM_PROMPT},
    [AG_CHAT_QWEN3] = {.name = "qwen3",
                       .sign = "enable_thinking",
                       IM_TURNS,
                       .prompt = IM_PROMPT,
                       .prompt_on = IM_PROMPT,
                       .prompt_off = IM_PROMPT NO_THOUGHTS,
                       .thoughts = AG_THOUGHTS_SINCE_ASKED},
    [AG_CHAT_QWEN3_THINKING] = {.name = "qwen3-thinking",
                                IM_TURNS,
                                .prompt = IM_PROMPT "<think>\n",
                                .thoughts = AG_THOUGHTS_SINCE_ASKED},
    [AG_CHAT_QWQ] = {.name = "qwq",
                     IM_TURNS,
                     .prompt = IM_PROMPT "<think>\n",
                     .thoughts = AG_THOUGHTS_LAST},
    [AG_CHAT_LLAMA2] = {.name = "llama2",
                        .sign = "<<SYS>>",
                        .system = {"<<SYS>>\n", "\n<</SYS>>\n\n", ""},
                        .user = {"{bos}[INST] ", " [/INST]", ""},
                        .assistant = {" ", " {eos}", ""},
                        .system_goes = AG_SYSTEM_IN_FIRST,
                        .flags = AG_CHAT_TRIMS_TURN | AG_CHAT_TRIMS_ANSWER | AG_CHAT_ALTERNATES},
    [AG_CHAT_LLAMA3] = {.name = "llama3",
                        .sign = "<|start_header_id|>",
                        .begin = "{bos}",
                        .system = {LLAMA3_HEADER("system"), "<|eot_id|>", ""},
                        LLAMA3_TURNS,
                        .flags = AG_CHAT_TRIMS_ALL},
    [AG_CHAT_LLAMA3_PROMPTING] = {.name = "llama3-prompting",
                                  .begin = "{bos}",
                                  .system = {LLAMA3_HEADER("system"), "<|eot_id|>", ""},
                                  LLAMA3_TURNS,
                                  .flags = AG_CHAT_TRIMS_ALL | AG_CHAT_ALWAYS_PROMPTS},
    [AG_CHAT_LLAMA31] = {.name = "llama3.1",
                         .sign = "Cutting Knowledge Date",
                         .begin = "{bos}",
                         .no_system = LLAMA3_KNOWS("26 Jul 2024") "<|eot_id|>",
                         .system = {LLAMA3_KNOWS("26 Jul 2024"), "<|eot_id|>", ""},
                         .later_system = LLAMA3_HEADER("system"),
                         LLAMA3_TURNS,
                         .flags = AG_CHAT_TRIMS_ALL},
    [AG_CHAT_LLAMA32] = {.name = "llama3.2",
                         .begin = "{bos}",
                         .no_system = LLAMA3_KNOWS("{day}") "<|eot_id|>",
                         .system = {LLAMA3_KNOWS("{day}"), "<|eot_id|>", ""},
                         .later_system = LLAMA3_HEADER("system"),
                         LLAMA3_TURNS,
                         .flags = AG_CHAT_TRIMS_ALL},
    [AG_CHAT_GEMMA] = {.name = "gemma",
                       .sign = "<start_of_turn>",
                       .begin = "{bos}",
                       GEMMA_TURNS,
                       .system_goes = AG_SYSTEM_NONE,
                       .flags = AG_CHAT_TRIMS_ALL | AG_CHAT_ALTERNATES},
    [AG_CHAT_GEMMA3] = {.name = "gemma3",
                        .sign = "first_user_prefix",
                        .begin = "{bos}",
                        .system = {"", "\n\n", ""},
                        GEMMA_TURNS,
                        .system_goes = AG_SYSTEM_IN_FIRST,
                        .flags = AG_CHAT_TRIMS_USER | AG_CHAT_TRIMS_ANSWER | AG_CHAT_ALTERNATES},
    [AG_CHAT_MISTRAL_V01] = {.name = "mistral-v0.1",
                             .begin = "{bos}",
                             .user = {"[INST] ", " [/INST]", ""},
                             .assistant = {"", "{eos}", " "},
                             .system_goes = AG_SYSTEM_NONE,
                             .flags = AG_CHAT_ALTERNATES},
    [AG_CHAT_MISTRAL_V02] = {.name = "mistral-v0.2",
                             .begin = "{bos}",
                             .user = {"[INST] ", " [/INST]", ""},
                             .assistant = {"", "{eos}", ""},
                             .system_goes = AG_SYSTEM_NONE,
                             .flags = AG_CHAT_ALTERNATES},
    [AG_CHAT_MISTRAL_V1] = {.name = "mistral-v1",
                            .sign = " [INST] ",
                            .begin = "{bos}",
                            .system = {"", "\n\n", ""},
                            .user = {" [INST] ", " [/INST]", ""},
                            .assistant = {" ", "{eos}", ""},
                            .system_goes = AG_SYSTEM_IN_FIRST,
                            .flags = AG_CHAT_ALTERNATES},
    [AG_CHAT_MISTRAL_V3] = {.name = "mistral-v3",
                            .sign = "[AVAILABLE_TOOLS] ",
                            .begin = "{bos}",
                            .system = {"", "\n\n", ""},
                            .user = {"[INST] ", "[/INST]", ""},
                            .assistant = {" ", "{eos}", ""},
                            .system_goes = AG_SYSTEM_IN_LAST,
                            .flags = AG_CHAT_TRIMS_ANSWER | AG_CHAT_ALTERNATES},
    [AG_CHAT_MISTRAL_V3_TEKKEN] = {.name = "mistral-v3-tekken",
                                   .sign = "[AVAILABLE_TOOLS][",
                                   .begin = "{bos}",
                                   .system = {"", "\n\n", ""},
                                   .user = {"[INST]", "[/INST]", ""},
                                   .assistant = {"", "{eos}", ""},
                                   .system_goes = AG_SYSTEM_IN_LAST,
                                   .flags = AG_CHAT_ALTERNATES},
    [AG_CHAT_MISTRAL_V7] = {.name = "mistral-v7",
                            .sign = "[SYSTEM_PROMPT] ",
                            .begin = "{bos}",
                            .system = {"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]", ""},
                            .user = {"[INST] ", "[/INST]", ""},
                            .assistant = {" ", "{eos}", ""}},
    [AG_CHAT_MISTRAL_V7_TEKKEN] = {.name = "mistral-v7-tekken",
                                   .sign = "[SYSTEM_PROMPT]",
                                   .begin = "{bos}",
                                   .no_system = TEKKEN_DATED,
                                   TEKKEN_TURNS},
    [AG_CHAT_MISTRAL_V7_STRICT] = {.name = "mistral-v7-strict",
                                   .begin = "{bos}",
                                   .no_system = TEKKEN_DATED,
                                   TEKKEN_TURNS,
                                   .system_goes = AG_SYSTEM_FIRST,
                                   .flags = AG_CHAT_ALTERNATES},
    [AG_CHAT_DEVSTRAL] = {.name = "devstral",
                          .sign = "tools_description",
                          .begin = "{bos}",
                          .no_system = "[SYSTEM_PROMPT]{text0}[/SYSTEM_PROMPT]",
                          TEKKEN_TURNS},
    [AG_CHAT_PHI3] = {.name = "phi3", .sign = "<|end|>\n", PHI3_TURNS},
    [AG_CHAT_PHI35] = {.name = "phi3.5", PHI3_TURNS, .flags = AG_CHAT_SYSTEM_IF_SAID},
    [AG_CHAT_PHI3_SMALL] = {.name = "phi3-small", .begin = "{bos}", PHI3_TURNS},
    [AG_CHAT_PHI3_OLD] = {.name = "phi3-mini-old",
                          .begin = "{bos}",
                          .user = {"<|user|>\n", "<|end|>\n<|assistant|>\n", ""},
                          .assistant = {"", "<|end|>", "\n"},
                          .system_goes = AG_SYSTEM_NONE},
    [AG_CHAT_PHI3_MEDIUM] = {.name = "phi3-medium",
                             .user = {"<|user|>\n", "<|end|>\n<|assistant|>\n", ""},
                             .assistant = {"", "<|end|>", "\n"},
                             .system_goes = AG_SYSTEM_NONE},
    [AG_CHAT_PHI4] = {.name = "phi4",
                      .sign = "<|im_sep|>",
                      .system = {IM_START "system<|im_sep|>", "<|im_end|>", ""},
                      .user = {IM_START "user<|im_sep|>",
                               "<|im_end|>" IM_START "assistant<|im_sep|>", ""},
                      .assistant = {"", "<|im_end|>", ""}},
    [AG_CHAT_PHI4_MINI] = {.name = "phi4-mini",
                           .sign = "<|/tool|>",
                           .system = {"<|system|>", "<|end|>", ""},
                           .user = {"<|user|>", "<|end|>", ""},
                           .assistant = {"<|assistant|>", "<|end|>", ""},
                           .prompt = "<|assistant|>",
                           .close = "{eos}"},
    [AG_CHAT_DEEPSEEK2] = {.name = "deepseek2",
                           .sign = "'Assistant: '",
                           .begin = "{bos}",
                           .system = {"", "", "\n\n"},
                           .user = {"User: ", "", "\n\n"},
                           .assistant = {"Assistant: ", "{eos}", ""},
                           .prompt = "Assistant:"},
    [AG_CHAT_DEEPSEEK3] = {.name = "deepseek3",
                           .sign = "<｜Assistant｜>",
                           .begin = "{bos}",
                           .system = {"", "", "\n\n"},
                           DEEPSEEK3_TURNS,
                           .prompt = "<｜Assistant｜>",
                           .system_goes = AG_SYSTEM_JOINED},
    [AG_CHAT_DEEPSEEK_R1] = {.name = "deepseek-r1",
                             .sign = "<｜Assistant｜><think>",
                             .begin = "{bos}",
                             .system = {"", "", "\n\n"},
                             DEEPSEEK3_TURNS,
                             .prompt = "<｜Assistant｜><think>\n",
                             .system_goes = AG_SYSTEM_JOINED,
                             .thoughts = AG_THOUGHTS_CUT},
    [AG_CHAT_DEEPSEEK_R1_OLD] = {.name = "deepseek-r1-old",
                                 .begin = "{bos}",
                                 .system = {"", "", "\n\n"},
                                 DEEPSEEK3_TURNS,
                                 .prompt = "<｜Assistant｜>",
                                 .system_goes = AG_SYSTEM_JOINED,
                                 .thoughts = AG_THOUGHTS_CUT},
    [AG_CHAT_DEEPSEEK_R1_DISTILL] = {.name = "deepseek-r1-distill",
                                     .begin = "{bos}",
                                     DEEPSEEK3_TURNS,
                                     .prompt = "<｜Assistant｜><think>\n",
                                     .system_goes = AG_SYSTEM_LAST_SAID,
                                     .thoughts = AG_THOUGHTS_CUT},
    [AG_CHAT_DEEPSEEK3_0324] = {.name = "deepseek3-0324",
                                .sign = "ns.is_last_user",
                                .begin = "{bos}",
                                .system = {"", "", "\n\n"},
                                DEEPSEEK3_ASKS,
                                .system_goes = AG_SYSTEM_JOINED,
                                .flags = AG_CHAT_ASKS},
    [AG_CHAT_DEEPSEEK_R1_0528] = {.name = "deepseek-r1-0528",
                                  .begin = "{bos}",
                                  .system = {"", "", "\n\n"},
                                  DEEPSEEK3_ASKS,
                                  .system_goes = AG_SYSTEM_JOINED,
                                  .thoughts = AG_THOUGHTS_CUT,
                                  .flags = AG_CHAT_ASKS},
    [AG_CHAT_DEEPSEEK31] = {.name = "deepseek3.1",
                            .sign = "not thinking is defined",
                            .begin = "{bos}",
                            .system = {"", "", "\n\n"},
                            .user = {"<｜User｜>", "", ""},
                            .assistant = {"<｜Assistant｜></think>", "<｜end▁of▁sentence｜>", ""},
                            .prompt = "<｜Assistant｜></think>",
                            .prompt_off = "<｜Assistant｜></think>",
                            .prompt_on = "<｜Assistant｜><think>",
                            .system_goes = AG_SYSTEM_JOINED,
                            .thoughts = AG_THOUGHTS_CUT_ONCE,
                            .flags = AG_CHAT_HEADS_REPLIES},
    [AG_CHAT_GPT_OSS] = {.name = "gpt-oss",
                         .sign = "<|channel|>",
                         .begin = "<|start|>system<|message|>You are ChatGPT, a large language "
                                  "model trained by OpenAI.\nKnowledge cutoff: 2024-06\nCurrent "
                                  "date: {date}\n\nReasoning: {effort}\n\n# Valid channels: "
                                  "analysis, commentary, final. Channel must be included for every "
                                  "message.<|end|>",
                         .system = {"<|start|>developer<|message|># Instructions\n\n",
                                    "\n\n<|end|>", ""},
                         .user = {"<|start|>user<|message|>", "<|end|>", ""},
                         .assistant = {"<|start|>assistant<|channel|>final<|message|>", "<|end|>",
                                       ""},
                         .last_end = "<|return|>",
                         .prompt = "<|start|>assistant",
                         .system_goes = AG_SYSTEM_FIRST,
                         .flags = AG_CHAT_SYSTEM_IF_SAID},
    [AG_CHAT_ZEPHYR] = {.name = "zephyr",
                        .sign = "<|user|>\n",
                        .system = {"<|system|>\n", "{eos}", "\n"},
                        .user = {"<|user|>\n", "{eos}", "\n"},
                        .assistant = {"<|assistant|>\n", "{eos}", "\n"},
                        .prompt = "<|assistant|>\n"},
    [AG_CHAT_SMOLLM3] = {.name = "smollm3",
                         .sign = "/no_think",
                         .text = SMOLLM3_THINKS,
                         .other_text = "You are a helpful AI assistant named SmolLM, trained by "
                                       "Hugging Face.\n\n",
                         .system = {IM_START "system\n",
                                    "## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: "
                                    "{longday}\nReasoning Mode: {thinking}\n\n## Custom "
                                    "Instructions\n\n",
                                    "\n\n"},
                         .user = {IM_START "user\n", "<|im_end|>", "\n"},
                         .assistant = {"", "<|im_end|>", "\n"},
                         .prompt_on = IM_PROMPT,
                         .prompt_off = IM_PROMPT "<think>\n\n</think>\n",
                         .system_goes = AG_SYSTEM_SWITCHES,
                         .flags = AG_CHAT_TRIMS_LINES},
};
