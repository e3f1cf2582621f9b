//! Names that become arguments.
//!
//! A model's name comes from a configuration or from a person, a thread's from an agent, and by way of a database; so
//! each is looked at again where it is put on a command line. A prompt is never put there at all.

use salon_core::failure;

use crate::EngineError;

use super::Errand;

const LONGEST: usize = 128;

/// The model that is asked for, if it can be one.
pub(super) fn model(errand: &Errand) -> Result<Option<&str>, EngineError> {
    match errand.model.as_deref() {
        Some(name) if !is_name(name, "-_.:/@+[]") => Err(refused("agent_model_name")),
        name => Ok(name),
    }
}

/// The thread to go on with, if it can be one.
pub(super) fn thread(errand: &Errand) -> Result<Option<&str>, EngineError> {
    match errand.thread.as_deref() {
        Some(name) if !is_thread(name) => Err(refused("agent_thread_name")),
        name => Ok(name),
    }
}

/// An errand that is none.
pub(super) fn refused(code: &'static str) -> EngineError {
    EngineError::failed(code, failure::written(code, ""))
}

/// Whether an agent's name for its thread is one that we would pass back to it. `latest` and a mere number would be
/// whatever thread happens to be there.
pub(super) fn is_thread(name: &str) -> bool {
    is_name(name, "-_.") && name != "latest" && !name.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(name: &str, marks: &str) -> bool {
    name.len() <= LONGEST
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use crate::agent::{Door, Policy};

    fn errand(name: &str) -> Errand {
        let door = Door { port: 4300, key: Secret::new("key") };
        let name = Some(name.to_owned());
        Errand { prompt: String::new(), thread: name.clone(), model: name, policy: Policy::Ask, held: false, door }
    }

    #[test]
    fn names_are_names_and_nothing_else() {
        for good in ["gpt-5.5", "claude-opus-4-8[1m]", "openrouter/z-ai/glm:free", "gemini-2.5-pro", "a"] {
            assert_eq!(model(&errand(good)), Ok(Some(good)));
        }
        let long = "x".repeat(129);
        for bad in ["", "-m", "--yolo", "a b", "a\nb", "$(id)", "a;b", "모델", ".hidden", "a\"b", "a\\b", &long] {
            assert!(model(&errand(bad)).is_err() && thread(&errand(bad)).is_err(), "{bad:?}");
        }
        for word in ["latest", "3", "a/b", "../b"] {
            assert!(!is_thread(word), "{word}");
        }
        assert!(is_thread("01a1fcca-f726-7952-afa5-bd0bdce33463") && is_thread("thread-1") && is_thread("ses_1"));
    }
}
