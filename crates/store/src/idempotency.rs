//! What was answered to requests that carry an `Idempotency-Key`, so that the same request is not carried out twice.

use salon_core::Time;

use crate::Tx;
use crate::dialect::listed;
use crate::error::{Error, Result};
use crate::row::Column;

/// A request as it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// Within which a key is one: the organisation, the user and the route.
    pub scope: String,
    pub key: String,
    /// What was asked. The same key with another question is a mistake of the client.
    pub hash: String,
    /// The process that carries it out, and which of its starts.
    pub owner: String,
    pub boot: String,
    /// Random, for this one call of [`Tx::begin_request`].
    pub nonce: String,
    pub now: Time,
    pub lease_until: Time,
}

/// Whoever carries a request out, as he remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTicket {
    pub scope: String,
    pub key: String,
    pub epoch: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BegunRequest {
    /// Carry it out; nobody did, or whoever began died.
    New(RequestTicket),
    Done(DoneRequest),
    /// Somebody is at it.
    Running,
    /// The key belongs to another question.
    Mismatch,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneRequest {
    pub status: i64,
    /// JSON.
    pub headers: String,
    /// `None` if it was too long to be kept.
    pub body: Option<Vec<u8>>,
}

impl Tx {
    /// Begins to carry a request out, or says what has become of it. Of many who come with the same key one is told
    /// [`BegunRequest::New`].
    pub async fn begin_request(&mut self, request: &NewRequest) -> Result<BegunRequest> {
        let added = sqlx::query(
            "INSERT INTO idempotency (scope, key, request_hash, state, epoch, owner, boot, nonce, lease_until, created_at) \
             VALUES ($1, $2, $3, 'running', 1, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(&request.scope)
        .bind(&request.key)
        .bind(&request.hash)
        .bind(&request.owner)
        .bind(&request.boot)
        .bind(&request.nonce)
        .bind(request.lease_until.0)
        .bind(request.now.0)
        .execute(self.connection())
        .await?;
        let ticket = |epoch| RequestTicket { scope: request.scope.clone(), key: request.key.clone(), epoch };
        if added.rows_affected() == 1 {
            return Ok(BegunRequest::New(ticket(1)));
        }
        let text = listed!(
            self.dialect,
            "SELECT r.request_hash, r.state, r.epoch, r.nonce, r.lease_until, r.status, r.headers, r.body FROM ",
            " JOIN idempotency r ON r.scope = list.value ->> 0 AND r.key = list.value ->> 1",
            " FOR UPDATE OF r"
        );
        let list = serde_json::json!([[request.scope, request.key]]).to_string();
        let row = sqlx::query(text).bind(list).fetch_optional(self.connection()).await?;
        // Swept between the two statements; the next try will find it gone.
        let row = row.ok_or_else(|| Error::Unavailable("the key was just swept".to_owned()))?;
        if row.text("request_hash")? != request.hash {
            return Ok(BegunRequest::Mismatch);
        }
        if row.text("state")? == "done" {
            return Ok(BegunRequest::Done(DoneRequest {
                status: row.int("status")?,
                headers: row.text("headers")?,
                body: sqlx::Row::try_get(&row, "body")?,
            }));
        }
        let epoch = row.int("epoch")?;
        // The transaction was run before, and its commit had an unknown outcome.
        if row.text("nonce")? == request.nonce {
            return Ok(BegunRequest::New(ticket(epoch)));
        }
        if row.int("lease_until")? > request.now.0 {
            return Ok(BegunRequest::Running);
        }
        sqlx::query(
            "UPDATE idempotency SET epoch = $3, owner = $4, boot = $5, nonce = $6, lease_until = $7 \
             WHERE scope = $1 AND key = $2",
        )
        .bind(&request.scope)
        .bind(&request.key)
        .bind(epoch + 1)
        .bind(&request.owner)
        .bind(&request.boot)
        .bind(&request.nonce)
        .bind(request.lease_until.0)
        .execute(self.connection())
        .await?;
        Ok(BegunRequest::New(ticket(epoch + 1)))
    }

    /// Says that it is still being carried out. [`Error::Fenced`] if somebody has taken over.
    pub async fn renew_request(&mut self, ticket: &RequestTicket, lease_until: Time) -> Result<()> {
        let renewed = sqlx::query(
            "UPDATE idempotency SET lease_until = $4 WHERE scope = $1 AND key = $2 AND epoch = $3 AND state = 'running'",
        )
        .bind(&ticket.scope)
        .bind(&ticket.key)
        .bind(ticket.epoch)
        .bind(lease_until.0)
        .execute(self.connection())
        .await?;
        if renewed.rows_affected() == 1 { Ok(()) } else { Err(Error::Fenced) }
    }

    /// Keeps the answer. [`Error::Fenced`] if somebody has taken over.
    pub async fn finish_request(&mut self, ticket: &RequestTicket, done: &DoneRequest) -> Result<()> {
        let finished = sqlx::query(
            "UPDATE idempotency SET state = 'done', status = $4, headers = $5, body = $6 \
             WHERE scope = $1 AND key = $2 AND epoch = $3",
        )
        .bind(&ticket.scope)
        .bind(&ticket.key)
        .bind(ticket.epoch)
        .bind(done.status)
        .bind(&done.headers)
        .bind(done.body.clone())
        .execute(self.connection())
        .await?;
        if finished.rows_affected() == 1 { Ok(()) } else { Err(Error::Fenced) }
    }

    /// Forgets that it was begun: nothing was done, and the client may try again with the same key.
    pub async fn forget_request(&mut self, ticket: &RequestTicket) -> Result<()> {
        sqlx::query("DELETE FROM idempotency WHERE scope = $1 AND key = $2 AND epoch = $3 AND state = 'running'")
            .bind(&ticket.scope)
            .bind(&ticket.key)
            .bind(ticket.epoch)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends the leases of this process's earlier starts.
    pub async fn reclaim_requests(&mut self, owner: &str, boot: &str) -> Result<u64> {
        let freed =
            sqlx::query("UPDATE idempotency SET lease_until = 0 WHERE owner = $1 AND boot <> $2 AND state = 'running'")
                .bind(owner)
                .bind(boot)
                .execute(self.connection())
                .await?;
        Ok(freed.rows_affected())
    }

    /// Forgets requests that came before `before`, but none that is being carried out at `now`.
    pub async fn sweep_requests(&mut self, before: Time, now: Time) -> Result<u64> {
        let swept =
            sqlx::query("DELETE FROM idempotency WHERE created_at < $1 AND (state = 'done' OR lease_until <= $2)")
                .bind(before.0)
                .bind(now.0)
                .execute(self.connection())
                .await?;
        Ok(swept.rows_affected())
    }
}
