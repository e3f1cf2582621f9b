//! Bounds of a question, and its bending to the manners of one model.

use super::{MAX_TOOLS, Terms};
use crate::wire::Wire;
use crate::wire::talk::{Amount, Ask, CannotCarry, Effort, Part, Thinking};

const MAX_MESSAGES: usize = 20_000;
const MAX_PARTS: usize = 100_000;
const MAX_STOPS: usize = 64;

/// Refuses what is too much of a good thing. How many bytes it is was judged when they came in.
pub(super) fn whole(ask: &Ask) -> Result<(), CannotCarry> {
    let too_many = |param: &str, what: &str, most: usize| {
        Err(CannotCarry::wrong(param, format!("There are too many {what}: at most {most} can be carried.")))
    };
    let parts = |parts: &[Part]| -> usize {
        let inner = |part: &Part| if let Part::Outcome(outcome) = part { outcome.parts.len() } else { 0 };
        parts.len() + parts.iter().map(inner).sum::<usize>()
    };
    if ask.messages.is_empty() {
        return Err(CannotCarry::wrong("messages", "There is nothing to answer: send at least one message."));
    }
    if ask.messages.len() > MAX_MESSAGES {
        return too_many("messages", "messages", MAX_MESSAGES);
    }
    if ask.messages.iter().map(|message| parts(&message.parts)).sum::<usize>() > MAX_PARTS {
        return too_many("messages", "parts in the messages", MAX_PARTS);
    }
    if ask.tools.len() > MAX_TOOLS {
        return too_many("tools", "tools", MAX_TOOLS);
    }
    if ask.sampling.stop.len() > MAX_STOPS {
        return too_many("stop", "stop sequences", MAX_STOPS);
    }
    if ask.max_output.is_some_and(|most| most < 1) {
        return Err(CannotCarry::wrong("max_tokens", "The greatest number of tokens to write must be at least 1."));
    }
    Ok(())
}

/// Tells that results say of themselves that they are failures, where that is not carried: OpenAI has no word for it.
pub(super) fn failures(ask: &mut Ask, to: Wire) {
    let mut parts = ask.messages.iter().flat_map(|message| &message.parts);
    let failed = parts.any(|part| matches!(part, Part::Outcome(outcome) if outcome.failed));
    if failed && matches!(to, Wire::Chat | Wire::Responses) {
        ask.leave_out("is_error");
    }
}

/// Lowers what is beyond this model, and leaves out, and tells, what it would refuse.
pub(super) fn bend(ask: &mut Ask, terms: &Terms<'_>) {
    // To stop at nothing is not to stop, and not every server takes it.
    ask.sampling.stop.retain(|stop| !stop.is_empty());
    ask.max_output = ask.max_output.map(|asked| asked.min(terms.max_output.filter(|most| *most > 0).unwrap_or(asked)));
    if terms.quirks.no_thinking {
        let idle = [Amount::Unsaid, Amount::Effort(Effort::None), Amount::Budget(0)];
        if !idle.contains(&ask.thinking.amount) {
            ask.leave_out("reasoning");
        }
        ask.thinking = Thinking::default();
    }
    if terms.quirks.no_sampling {
        let sampling = &mut ask.sampling;
        let gone = [
            ("temperature", sampling.temperature.take().is_some()),
            ("top_p", sampling.top_p.take().is_some()),
            ("top_k", sampling.top_k.take().is_some()),
        ];
        gone.iter().filter(|(_, was)| *was).for_each(|(name, _)| ask.leave_out(name));
    }
}
