//! Secrets in memory.

use std::fmt;

use zeroize::Zeroize;

/// A string that must not be shown: a key on its way to a header.
///
/// It has no `Display` and no `Serialize`, so it can neither be logged nor stored by accident; whoever needs the text
/// has to [`expose`](Secret::expose) it, and that word can be searched for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A secret that is no longer needed does not stay in memory.
impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let shown = format!("{:?}", Some(Secret::new("sk-parrot")));
        assert_eq!(shown, "Some(Secret(…))");
    }
}
