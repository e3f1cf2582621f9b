//! The engine that says what it heard.

use async_trait::async_trait;
use salon_core::Brief;

use crate::{Emitter, Engine, EngineError, estimate};

/// Repeats the question. It needs no key and no network, and programs that test a bot match its exact words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Said before the question.
    pub prefix: String,
}

impl Echo {
    /// Repeats the question and nothing else, like the demo's parrot.
    pub fn verbatim() -> Echo {
        Echo { prefix: String::new() }
    }
}

impl Echo {
    /// On a thread that goes on, a prefix that is a name says so: `echo: ` becomes `echo-resume: `.
    fn said_before(&self, brief: &Brief) -> String {
        match (&brief.thread, self.prefix.strip_suffix(": ")) {
            (Some(_), Some(name)) => format!("{name}-resume: "),
            _ => self.prefix.clone(),
        }
    }
}

impl Default for Echo {
    fn default() -> Self {
        Echo { prefix: "echo: ".to_owned() }
    }
}

#[async_trait]
impl Engine for Echo {
    async fn answer(&self, brief: &Brief, out: &mut Emitter) -> Result<(), EngineError> {
        let answer = format!("{}{}", self.said_before(brief), brief.question);
        let usage = estimate::usage(None, brief, estimate::tokens(&answer));
        out.text(answer).await?;
        out.usage(usage).await
    }

    fn thread(&self, _brief: &Brief) -> Option<String> {
        Some("echo-thread".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ask, text_of};
    use salon_core::{Event, Usage};

    #[tokio::test]
    async fn it_says_what_it_heard_after_its_prefix() {
        let heard = ask(&Echo::default(), "hi").await;
        assert_eq!(heard.outcome, Ok(()));
        assert_eq!(
            heard.events,
            [
                Event::Text { text: "echo: hi".into() },
                Event::Usage(Usage { tokens_in: 5, tokens_out: 2, estimated: true, ..Usage::default() }),
            ],
        );
    }

    #[tokio::test]
    async fn a_verbatim_echo_adds_nothing() {
        assert_eq!(text_of(&ask(&Echo::verbatim(), "Polly!").await.events), "Polly!");
    }

    #[tokio::test]
    async fn on_its_own_thread_it_says_that_it_goes_on() {
        let again = Brief { thread: Some("echo-thread".into()), ..crate::testing::brief("hi") };
        assert_eq!(Echo::default().said_before(&again), "echo-resume: ");
        assert_eq!(Echo::verbatim().said_before(&again), "");
    }
}
