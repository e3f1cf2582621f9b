//! What was added to the catalog of models while Salon runs: upstreams, models, prices.
//!
//! The bodies are JSON whose shape is the catalog's own business. Every change raises the revision in its transaction
//! and wakes [`CATALOG`], so a reader who has seen a revision has seen everything up to it.

use salon_core::Time;
use sqlx::any::AnyRow;

use crate::error::Result;
use crate::row::{Column, storable};
use crate::signal::Signal;
use crate::{Store, Tx};

/// Who waits for work of this name hears of changes.
pub const CATALOG: &str = "catalog";

/// One upstream or one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub body: String,
}

/// What a model costs from a day on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PriceRow {
    pub provider: String,
    pub model: String,
    /// In UTC, as `YYYY-MM-DD`.
    pub valid_from: String,
    pub body: String,
}

/// The database's part of the catalog, all of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogRows {
    pub revision: i64,
    /// In the order of their names.
    pub upstreams: Vec<Entry>,
    /// In the order of their names.
    pub models: Vec<Entry>,
    /// By provider, model and day, the oldest first.
    pub prices: Vec<PriceRow>,
}

impl Store {
    /// Reads the catalog as it was at one revision: a change in between is read again.
    pub async fn read_catalog(&self) -> Result<CatalogRows> {
        let mut tx = self.read().await?;
        loop {
            let revision = tx.find_catalog_revision().await?;
            let rows = CatalogRows {
                revision,
                upstreams: tx.list_upstreams().await?,
                models: tx.list_models().await?,
                prices: tx.list_prices().await?,
            };
            if tx.find_catalog_revision().await? == revision {
                return Ok(rows);
            }
        }
    }
}

impl Tx {
    /// The number of changes so far.
    pub async fn find_catalog_revision(&mut self) -> Result<i64> {
        let row = sqlx::query("SELECT revision FROM catalog WHERE id = 1").fetch_one(self.connection()).await?;
        row.int("revision")
    }

    /// In the order of their names.
    pub async fn list_upstreams(&mut self) -> Result<Vec<Entry>> {
        let rows = sqlx::query("SELECT name, body FROM upstreams").fetch_all(self.connection()).await?;
        entries(rows)
    }

    /// Adds an upstream, in the place of one of the same name.
    pub async fn set_upstream(&mut self, entry: &Entry, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO upstreams (name, body, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET body = $2, updated_at = $3",
        )
        .bind(&entry.name)
        .bind(storable(&entry.body))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.raise_catalog().await
    }

    /// `false` if there was none of this name.
    pub async fn remove_upstream(&mut self, name: &str) -> Result<bool> {
        let removed =
            sqlx::query("DELETE FROM upstreams WHERE name = $1").bind(name).execute(self.connection()).await?;
        self.raise_catalog_if(removed.rows_affected() > 0).await
    }

    /// In the order of their names.
    pub async fn list_models(&mut self) -> Result<Vec<Entry>> {
        let rows = sqlx::query("SELECT name, body FROM models").fetch_all(self.connection()).await?;
        entries(rows)
    }

    /// Adds a model, in the place of one of the same name.
    pub async fn set_model(&mut self, entry: &Entry, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO models (name, body, updated_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET body = $2, updated_at = $3",
        )
        .bind(&entry.name)
        .bind(storable(&entry.body))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.raise_catalog().await
    }

    /// `false` if there was none of this name.
    pub async fn remove_model(&mut self, name: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM models WHERE name = $1").bind(name).execute(self.connection()).await?;
        self.raise_catalog_if(removed.rows_affected() > 0).await
    }

    /// By provider, model and day, the oldest first.
    pub async fn list_prices(&mut self) -> Result<Vec<PriceRow>> {
        let rows =
            sqlx::query("SELECT provider, model, valid_from, body FROM prices").fetch_all(self.connection()).await?;
        let mut prices = rows
            .into_iter()
            .map(|row| {
                Ok(PriceRow {
                    provider: row.text("provider")?,
                    model: row.text("model")?,
                    valid_from: row.text("valid_from")?,
                    body: row.text("body")?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        prices.sort_unstable();
        Ok(prices)
    }

    /// Adds a price, in the place of one for the same model and day.
    pub async fn set_price(&mut self, price: &PriceRow, now: Time) -> Result<()> {
        sqlx::query(
            "INSERT INTO prices (provider, model, valid_from, body, updated_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (provider, model, valid_from) DO UPDATE SET body = $4, updated_at = $5",
        )
        .bind(&price.provider)
        .bind(&price.model)
        .bind(&price.valid_from)
        .bind(storable(&price.body))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        self.raise_catalog().await
    }

    /// `false` if there was none for this model and day.
    pub async fn remove_price(&mut self, provider: &str, model: &str, valid_from: &str) -> Result<bool> {
        let removed = sqlx::query("DELETE FROM prices WHERE provider = $1 AND model = $2 AND valid_from = $3")
            .bind(provider)
            .bind(model)
            .bind(valid_from)
            .execute(self.connection())
            .await?;
        self.raise_catalog_if(removed.rows_affected() > 0).await
    }

    async fn raise_catalog_if(&mut self, changed: bool) -> Result<bool> {
        if changed {
            self.raise_catalog().await?;
        }
        Ok(changed)
    }

    /// The row is locked until the commit, so revisions follow commits.
    async fn raise_catalog(&mut self) -> Result<()> {
        sqlx::query("UPDATE catalog SET revision = revision + 1 WHERE id = 1").execute(self.connection()).await?;
        self.signal(Signal::Work(CATALOG.to_owned()));
        Ok(())
    }
}

/// Sorted here and not there: the two databases do not sort punctuation alike.
fn entries(rows: Vec<AnyRow>) -> Result<Vec<Entry>> {
    let entry = |row: AnyRow| Ok(Entry { name: row.text("name")?, body: row.text("body")? });
    let mut entries = rows.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}
