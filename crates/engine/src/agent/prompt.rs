//! What people write, on its way to an agent.

/// A prompt that is nothing but words. Some agents take one that begins with a slash for a command to themselves, which
/// it may not become; the mark is the one that the older bridge put before a message.
pub(super) fn plain(prompt: &str) -> String {
    match prompt.trim_start().starts_with('/') {
        true => format!("[User Message]\n{prompt}"),
        false => prompt.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_no_command() {
        assert_eq!(plain("say /hello"), "say /hello");
        assert_eq!(plain(" /status"), "[User Message]\n /status");
    }
}
