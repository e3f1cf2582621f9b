//! Reading columns, and the one thing to mind when writing them.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::Result;

/// Ended rows that a count for the metrics looks at: it takes some hundredths of a second however old the data is.
pub(crate) const COUNTED: i64 = 50_000;

/// A column by name. A missing column or a wrong type is a mistake in our SQL, found by the conformance tests.
pub(crate) trait Column {
    fn text(&self, name: &str) -> Result<String>;
    fn maybe_text(&self, name: &str) -> Result<Option<String>>;
    fn int(&self, name: &str) -> Result<i64>;
    fn maybe_int(&self, name: &str) -> Result<Option<i64>>;
    fn bytes(&self, name: &str) -> Result<Vec<u8>>;

    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.int(name)? != 0)
    }
}

impl Column for AnyRow {
    fn text(&self, name: &str) -> Result<String> {
        Ok(self.try_get(name)?)
    }

    fn maybe_text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.try_get(name)?)
    }

    fn int(&self, name: &str) -> Result<i64> {
        Ok(self.try_get(name)?)
    }

    fn maybe_int(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.try_get(name)?)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        Ok(self.try_get(name)?)
    }
}

/// Text as both databases can store it: PostgreSQL refuses U+0000, which people and engines can send.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_null_character_is_replaced() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert_eq!(storable("a\u{1}b\n"), "a\u{1}b\n");
    }
}
