//! Reading columns.

use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::Result;

/// A column by name. A missing column or a wrong type is a mistake in our SQL, found by the conformance tests.
pub(crate) trait Column {
    fn text(&self, name: &str) -> Result<String>;
    fn maybe_text(&self, name: &str) -> Result<Option<String>>;
    fn int(&self, name: &str) -> Result<i64>;
    fn maybe_int(&self, name: &str) -> Result<Option<i64>>;

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
}
