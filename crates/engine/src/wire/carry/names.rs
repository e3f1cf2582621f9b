//! What is said about a question names its fields as whoever asked it does.

use crate::wire::Wire;
use crate::wire::talk::CannotCarry;

/// What a door calls the field that chat calls `name`. Whoever writes for another wire knows it by chat's name.
fn at(door: Wire, name: &str) -> &str {
    use Wire::{Chat, Completions, Generate, Messages, Midm, Responses};
    match (door, name) {
        (Completions, "messages") => "prompt",
        (Responses, "messages") => "input",
        (Generate, "messages") => "contents",
        (Responses, "max_tokens") => "max_output_tokens",
        (Generate, "max_tokens") => "generationConfig.maxOutputTokens",
        (Midm, "max_tokens") => "max_new_tokens",
        (Messages, "stop") => "stop_sequences",
        (Generate, "stop") => "generationConfig.stopSequences",
        (Generate, "temperature") => "generationConfig.temperature",
        (Generate, "top_p") => "generationConfig.topP",
        (Generate, "top_k") => "generationConfig.topK",
        (Generate, "seed") => "generationConfig.seed",
        (Generate, "presence_penalty") => "generationConfig.presencePenalty",
        (Generate, "frequency_penalty") => "generationConfig.frequencyPenalty",
        (Responses, "response_format") => "text.format",
        (Messages, "response_format") => "output_config.format",
        (Generate, "response_format") => "generationConfig.responseMimeType",
        (Responses, "verbosity") => "text.verbosity",
        (Chat | Completions, "reasoning" | "thinking") => "reasoning_effort",
        (Responses, "thinking") => "reasoning",
        (Messages, "reasoning") => "thinking",
        (Generate, "reasoning" | "thinking") => "generationConfig.thinkingConfig",
        (Messages, "parallel_tool_calls") => "tool_choice.disable_parallel_tool_use",
        (Messages, "is_error") => "messages.is_error",
        (Generate, "is_error") => "contents.functionResponse.response.error",
        (_, name) => name,
    }
}

/// A refusal by chat's name for the field, by the door's.
pub(super) fn refused(door: Wire, cannot: CannotCarry) -> CannotCarry {
    let param = at(door, &cannot.param).to_owned();
    let message = cannot.message.replacen(&format!("`{}`", cannot.param), &format!("`{param}`"), 1);
    CannotCarry { param, message, ..cannot }
}

/// The same for what is left out.
pub(super) fn left_out(door: Wire, names: &mut [String]) {
    for name in names {
        *name = at(door, name).to_owned();
    }
}
