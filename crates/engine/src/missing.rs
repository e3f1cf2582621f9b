//! The engine that is not there.

use async_trait::async_trait;
use salon_core::Brief;

use crate::{Emitter, Engine, EngineError};

/// Cannot answer, and says kindly why. It stands where someone may choose an engine that is not configured or not
/// installed, so that choosing it leads to advice and not to silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub code: &'static str,
    /// A sentence for people, shown as it stands.
    pub message: String,
}

impl Missing {
    /// A command line agent without its executable. Programs match these words.
    pub fn executable(provider: &str) -> Missing {
        let message = format!("provider={provider} executable not found; install CLI or switch with /mode codex");
        Missing { code: "binary_missing", message }
    }
}

#[async_trait]
impl Engine for Missing {
    async fn answer(&self, _brief: &Brief, _out: &mut Emitter) -> Result<(), EngineError> {
        Err(EngineError::failed(self.code, self.message.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ask;

    #[tokio::test]
    async fn it_fails_with_its_own_words_and_says_nothing_else() {
        let heard = ask(&Missing::executable("claude"), "hi").await;
        assert_eq!(heard.events, []);
        assert_eq!(
            heard.outcome,
            Err(EngineError::failed(
                "binary_missing",
                "provider=claude executable not found; install CLI or switch with /mode codex",
            )),
        );
    }
}
