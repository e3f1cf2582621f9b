//! Jobs: durable work with a key and a lane.
//!
//! *key*: at most once, ever, until swept. *lane*: one at a time, in order; only the oldest open job of a lane can be
//! claimed. A claim is a lease with an epoch. Whoever works on a job proves in every transaction that the lease is
//! still his ([`Tx::hold`]); everything that changes what the work is about asks for that proof.
//!
//! ```text
//! queued ──claim──► running ──finish──► done
//!    ▲                 │ retry, snooze, or lease expired
//!    └─────────────────┤
//!                      └── bury ──► dead        stopped: ended on request, before or while it ran
//! ```
//! The last three are final.

use salon_core::{BotId, JobId, Time};

use crate::Tx;
use crate::dialect::{Dialect, locked};
use crate::error::{Error, Result};
use crate::row::{COUNTED, Column, storable};
use crate::signal::Signal;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    pub id: JobId,
    pub key: Option<String>,
    /// Which claim loop takes it.
    pub queue: &'static str,
    pub kind: &'static str,
    pub lane: String,
    pub bot: Option<BotId>,
    /// JSON, without secrets.
    pub payload: String,
    pub now: Time,
    /// The lane is full if it has this many open jobs.
    pub room: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    New,
    /// A job with this key exists or existed.
    Duplicate,
    /// The lane has no room; the job was not added.
    LaneFull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    Queued,
    Running,
    Done,
    Stopped,
    Dead,
}

impl JobState {
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Done => "done",
            JobState::Stopped => "stopped",
            JobState::Dead => "dead",
        }
    }
}

/// A process that works: its lasting name, and this start of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub owner: String,
    pub boot: String,
    /// Works for this bot alone.
    pub only: Option<BotId>,
}

/// A lease as its holder remembers it. Worth nothing until [`Tx::hold`] says it still counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub job: JobId,
    pub epoch: i64,
}

/// Proof, inside one transaction, that the lease is ours.
#[derive(Debug)]
pub struct Held {
    job: JobId,
    epoch: i64,
    queue: String,
}

impl Held {
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub ticket: Ticket,
    pub kind: String,
    pub lane: String,
    pub seq: i64,
    pub bot: Option<BotId>,
    pub payload: String,
    /// How often it was claimed, this time included.
    pub attempts: i64,
    pub stop_requested: bool,
    pub created_at: Time,
}

/// Open and ended jobs of one kind and bot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCounts {
    pub kind: String,
    pub bot: Option<String>,
    pub state: String,
    pub count: i64,
}

impl Tx {
    /// Adds a job at the end of its lane. Its number has no gap to the one before.
    pub async fn enqueue(&mut self, job: &NewJob) -> Result<Enqueued> {
        // The lane's row is locked from here until the commit, so numbers are given out in the order of commits.
        let lane = sqlx::query(
            "INSERT INTO lanes (lane, next_seq) VALUES ($1, 2) \
             ON CONFLICT (lane) DO UPDATE SET next_seq = lanes.next_seq + 1 RETURNING next_seq",
        )
        .bind(&job.lane)
        .fetch_one(self.connection())
        .await?;
        if let Some(room) = job.room
            && self.count_open(&job.lane).await? >= room
        {
            self.give_number_back(&job.lane).await?;
            // What comes a second time is not refused for want of room.
            return Ok(if self.is_known(job).await? { Enqueued::Duplicate } else { Enqueued::LaneFull });
        }
        let added = sqlx::query(
            "INSERT INTO jobs (id, key, queue, kind, lane, seq, bot_id, payload, state, epoch, attempts, \
                               available_at, stop_requested, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'queued', 0, 0, $9, 0, $9) ON CONFLICT DO NOTHING",
        )
        .bind(job.id.as_str())
        .bind(job.key.as_deref())
        .bind(job.queue)
        .bind(job.kind)
        .bind(&job.lane)
        .bind(lane.int("next_seq")? - 1)
        .bind(job.bot.as_ref().map(BotId::as_str))
        .bind(&job.payload)
        .bind(job.now.0)
        .execute(self.connection())
        .await?;
        if added.rows_affected() == 0 {
            self.give_number_back(&job.lane).await?;
            return Ok(Enqueued::Duplicate);
        }
        self.signal(Signal::Work(job.queue.to_owned()));
        Ok(Enqueued::New)
    }

    /// Takes back what [`Tx::enqueue`] has taken and does not need: nobody else had a number since.
    async fn give_number_back(&mut self, lane: &str) -> Result<()> {
        sqlx::query("UPDATE lanes SET next_seq = next_seq - 1 WHERE lane = $1")
            .bind(lane)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Lets what is open in a lane go on in another, behind what is open there. If that is anything, the job that runs
    /// stays where it is: no two of one lane run at once.
    pub async fn move_lane(&mut self, from: &str, to: &str) -> Result<()> {
        if from == to || self.count_open(from).await? == 0 {
            return Ok(());
        }
        let left = sqlx::query("UPDATE lanes SET next_seq = next_seq WHERE lane = $1 RETURNING next_seq")
            .bind(from)
            .fetch_one(self.connection())
            .await?
            .int("next_seq")?;
        let joined = sqlx::query(
            "INSERT INTO lanes (lane, next_seq) VALUES ($1, $2) \
             ON CONFLICT (lane) DO UPDATE SET next_seq = lanes.next_seq + $2 - 1 RETURNING next_seq",
        )
        .bind(to)
        .bind(left)
        .fetch_one(self.connection())
        .await?
        .int("next_seq")?;
        let moved = match self.count_open(to).await? {
            0 => "UPDATE jobs SET lane = $2, seq = seq + $3 WHERE lane = $1 AND state IN ('queued', 'running')",
            _ => "UPDATE jobs SET lane = $2, seq = seq + $3 WHERE lane = $1 AND state = 'queued'",
        };
        sqlx::query(moved).bind(from).bind(to).bind(joined - left).execute(self.connection()).await?;
        Ok(())
    }

    async fn is_known(&mut self, job: &NewJob) -> Result<bool> {
        let Some(key) = &job.key else { return Ok(false) };
        let row = sqlx::query("SELECT id FROM jobs WHERE key = $1").bind(key).fetch_optional(self.connection()).await?;
        Ok(row.is_some())
    }

    /// Open jobs of a lane.
    pub async fn count_open(&mut self, lane: &str) -> Result<i64> {
        let row = sqlx::query("SELECT COUNT(*) AS open FROM jobs WHERE lane = $1 AND state IN ('queued', 'running')")
            .bind(lane)
            .fetch_one(self.connection())
            .await?;
        row.int("open")
    }

    /// Open jobs of a lane, oldest first: the head is running or next.
    pub async fn list_open(&mut self, lane: &str) -> Result<Vec<Claimed>> {
        let rows = sqlx::query(
            "SELECT id, epoch, kind, lane, seq, bot_id, payload, attempts, stop_requested, created_at FROM jobs \
             WHERE lane = $1 AND state IN ('queued', 'running') ORDER BY seq",
        )
        .bind(lane)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(claimed).collect()
    }

    /// Claims up to `limit` due jobs of a queue for `worker`, those first that have been due longest, and never two of
    /// one lane.
    ///
    /// `longest` is the longest lease anybody may hold: one that ends later was written under a clock that has since
    /// been set back, and counts as expired. A wrong guess is harmless, the epoch decides.
    pub async fn claim(
        &mut self,
        queue: &str,
        worker: &Worker,
        now: Time,
        lease_until: Time,
        longest: Time,
        limit: i64,
    ) -> Result<Vec<Claimed>> {
        let rows = sqlx::query(claim_text(self.dialect))
            .bind(queue)
            .bind(now.0)
            .bind(longest.0)
            .bind(limit)
            .bind(&worker.owner)
            .bind(&worker.boot)
            .bind(lease_until.0)
            .bind(worker.only.as_ref().map(BotId::as_str))
            .fetch_all(self.connection())
            .await?;
        let mut jobs: Vec<Claimed> = rows.iter().map(claimed).collect::<Result<_>>()?;
        jobs.sort_by(|a, b| (a.created_at, &a.ticket.job).cmp(&(b.created_at, &b.ticket.job)));
        Ok(jobs)
    }

    /// Proves that the lease still counts, and extends it. The first statement of every transaction of a worker.
    pub async fn hold(&mut self, ticket: &Ticket, lease_until: Time) -> Result<Held> {
        let row = sqlx::query(HOLD)
            .bind(ticket.job.as_str())
            .bind(ticket.epoch)
            .bind(lease_until.0)
            .fetch_optional(self.connection())
            .await?;
        #[cfg(debug_assertions)]
        if row.is_none() && crate::failpoint::sabotaged("no-fence") {
            return Ok(Held { job: ticket.job.clone(), epoch: ticket.epoch, queue: "out".to_owned() });
        }
        let row = row.ok_or(Error::Fenced)?;
        Ok(Held { job: ticket.job.clone(), epoch: ticket.epoch, queue: row.text("queue")? })
    }

    /// Ends the leases of this process's earlier starts, so that what they left is taken up at once.
    ///
    /// A death of the process is laid at the door of everything that ran, and most of that is innocent. What was begun
    /// a third time in vain therefore waits for its lease to run out: whatever kills the process at once is kept apart
    /// for a while, and the rest gets through before it is given up.
    pub async fn reclaim(&mut self, worker: &Worker) -> Result<u64> {
        let freed = sqlx::query(
            "UPDATE jobs SET lease_until = 0 \
             WHERE owner = $1 AND boot <> $2 AND state = 'running' AND attempts < 3",
        )
        .bind(&worker.owner)
        .bind(&worker.boot)
        .execute(self.connection())
        .await?;
        Ok(freed.rows_affected())
    }

    /// The same for one queue, however often its jobs were begun: for those that are never done.
    pub async fn reclaim_queue(&mut self, worker: &Worker, queue: &str) -> Result<u64> {
        let freed = sqlx::query(
            "UPDATE jobs SET lease_until = 0 \
             WHERE owner = $1 AND boot <> $2 AND state = 'running' AND queue = $3",
        )
        .bind(&worker.owner)
        .bind(&worker.boot)
        .bind(queue)
        .execute(self.connection())
        .await?;
        Ok(freed.rows_affected())
    }

    /// Forgets what the job carried: somebody said it who was not talking to us.
    pub async fn forget_payload(&mut self, held: &Held) -> Result<()> {
        sqlx::query("UPDATE jobs SET payload = '{}' WHERE id = $1 AND epoch = $2")
            .bind(held.job.as_str())
            .bind(held.epoch)
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends the job as done.
    pub async fn finish(&mut self, held: Held, now: Time) -> Result<()> {
        self.end(held, JobState::Done, None, now).await
    }

    /// Ends the job as stopped on request.
    pub async fn finish_stopped(&mut self, held: Held, now: Time) -> Result<()> {
        self.end(held, JobState::Stopped, None, now).await
    }

    /// Gives the job up. It no longer blocks its lane.
    pub async fn bury(&mut self, held: Held, error: &str, now: Time) -> Result<()> {
        self.end(held, JobState::Dead, Some(error), now).await
    }

    async fn end(&mut self, held: Held, state: JobState, error: Option<&str>, now: Time) -> Result<()> {
        sqlx::query(
            "UPDATE jobs SET state = $3, error = COALESCE($4, error), finished_at = $5, lease_until = NULL \
             WHERE id = $1 AND epoch = $2 AND state = 'running'",
        )
        .bind(held.job.as_str())
        .bind(held.epoch)
        .bind(state.as_str())
        .bind(error.map(storable))
        .bind(now.0)
        .execute(self.connection())
        .await?;
        // The next job of the lane may go now.
        self.signal(Signal::Work(held.queue));
        Ok(())
    }

    /// Puts the job back to be tried again at `available_at`; it keeps its place in the lane.
    pub async fn retry(&mut self, held: Held, error: &str, available_at: Time) -> Result<()> {
        sqlx::query(
            "UPDATE jobs SET state = 'queued', error = $3, available_at = $4, owner = NULL, lease_until = NULL \
             WHERE id = $1 AND epoch = $2 AND state = 'running'",
        )
        .bind(held.job.as_str())
        .bind(held.epoch)
        .bind(storable(error))
        .bind(available_at.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Puts the job back without counting this attempt: nothing went wrong, it only has to wait.
    pub async fn snooze(&mut self, held: Held, available_at: Time) -> Result<()> {
        sqlx::query(
            "UPDATE jobs SET state = 'queued', attempts = attempts - 1, available_at = $3, owner = NULL, \
                             lease_until = NULL \
             WHERE id = $1 AND epoch = $2 AND state = 'running'",
        )
        .bind(held.job.as_str())
        .bind(held.epoch)
        .bind(available_at.0)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Asks whoever runs the job to stop. `false` if it has ended.
    pub async fn request_stop(&mut self, job: &JobId) -> Result<bool> {
        let asked = sqlx::query("UPDATE jobs SET stop_requested = 1 WHERE id = $1 AND state IN ('queued', 'running')")
            .bind(job.as_str())
            .execute(self.connection())
            .await?;
        if asked.rows_affected() == 0 {
            return Ok(false);
        }
        self.signal(Signal::Stop(job.as_str().to_owned()));
        Ok(true)
    }

    /// Ends a job that nobody runs yet. `None` if it is running or has ended.
    ///
    /// The proof it answers is good for this transaction: nobody else can claim the job any more.
    pub async fn stop_unclaimed(&mut self, job: &JobId, now: Time) -> Result<Option<Held>> {
        let row = sqlx::query(
            "UPDATE jobs SET state = 'stopped', epoch = epoch + 1, stop_requested = 1, finished_at = $2 \
             WHERE id = $1 AND state = 'queued' RETURNING queue, epoch",
        )
        .bind(job.as_str())
        .bind(now.0)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let held = Held { job: job.clone(), epoch: row.int("epoch")?, queue: row.text("queue")? };
        self.signal(Signal::Work(held.queue.clone()));
        Ok(Some(held))
    }

    /// Ends a job that nobody has begun as done: the holder of another job did it along with its own. `false` if somebody
    /// has begun it, or it has ended.
    pub async fn finish_unclaimed(&mut self, _held: &Held, job: &JobId, now: Time) -> Result<bool> {
        let row = sqlx::query(
            "UPDATE jobs SET state = 'done', epoch = epoch + 1, finished_at = $2 \
             WHERE id = $1 AND state = 'queued' RETURNING queue",
        )
        .bind(job.as_str())
        .bind(now.0)
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(false) };
        let queue = row.text("queue")?;
        self.signal(Signal::Work(queue));
        Ok(true)
    }

    /// This process's running jobs that were asked to stop.
    pub async fn list_stop_requests(&mut self, worker: &Worker) -> Result<Vec<JobId>> {
        let rows = sqlx::query(
            "SELECT id FROM jobs WHERE owner = $1 AND boot = $2 AND stop_requested = 1 \
               AND state = 'running'",
        )
        .bind(&worker.owner)
        .bind(&worker.boot)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| Ok(JobId::new(row.text("id")?))).collect()
    }

    /// The oldest open job of one kind in a lane.
    pub async fn find_open(&mut self, lane: &str, kind: &str) -> Result<Option<Claimed>> {
        let row = sqlx::query(
            "SELECT id, epoch, kind, lane, seq, bot_id, payload, attempts, stop_requested, created_at FROM jobs \
             WHERE lane = $1 AND kind = $2 AND state IN ('queued', 'running') ORDER BY seq LIMIT 1",
        )
        .bind(lane)
        .bind(kind)
        .fetch_optional(self.connection())
        .await?;
        row.as_ref().map(claimed).transpose()
    }

    /// How many jobs of each kind, bot and state there are: all that are open, and of those that have ended the newest
    /// [`COUNTED`].
    pub async fn count_jobs(&mut self) -> Result<Vec<JobCounts>> {
        let rows = sqlx::query(
            "SELECT kind, bot_id, state, COUNT(*) AS count FROM ( \
               SELECT kind, bot_id, state FROM jobs WHERE state IN ('queued', 'running') \
               UNION ALL \
               SELECT * FROM (SELECT kind, bot_id, state FROM jobs WHERE finished_at IS NOT NULL \
                              ORDER BY finished_at DESC LIMIT CAST($1 AS BIGINT)) ended) counted \
             GROUP BY kind, bot_id, state ORDER BY kind, bot_id, state",
        )
        .bind(COUNTED)
        .fetch_all(self.connection())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(JobCounts {
                    kind: row.text("kind")?,
                    bot: row.maybe_text("bot_id")?,
                    state: row.text("state")?,
                    count: row.int("count")?,
                })
            })
            .collect()
    }

    /// Forgets some jobs that ended before `before`, and with them their keys; 0 once none is left. A few at a time, so
    /// that nobody waits long for them.
    pub async fn sweep_jobs(&mut self, before: Time) -> Result<u64> {
        let swept = sqlx::query(
            "DELETE FROM jobs WHERE id IN ( \
               SELECT id FROM jobs WHERE finished_at IS NOT NULL AND finished_at < $1 LIMIT 500)",
        )
        .bind(before.0)
        .execute(self.connection())
        .await?;
        Ok(swept.rows_affected())
    }
}

const HOLD: &str =
    "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND epoch = $2 AND state = 'running' RETURNING queue";

fn claim_text(dialect: Dialect) -> &'static str {
    locked!(
        dialect,
        "WITH head AS MATERIALIZED ( \
           SELECT j.id FROM jobs j \
           WHERE j.queue = $1 AND j.state IN ('queued', 'running') AND j.available_at <= $2 \
             AND (j.state = 'queued' OR j.lease_until < $2 OR j.lease_until > $3) \
             AND (CAST($8 AS TEXT) IS NULL OR j.bot_id = $8) \
             AND NOT EXISTS (SELECT 1 FROM jobs k WHERE k.lane = j.lane AND k.seq < j.seq \
                               AND k.state IN ('queued', 'running')) \
           ORDER BY j.available_at, j.id LIMIT CAST($4 AS BIGINT)",
        ") \
         UPDATE jobs SET state = 'running', epoch = epoch + 1, attempts = attempts + 1, \
                         owner = $5, boot = $6, lease_until = $7 \
         WHERE id IN (SELECT id FROM head) \
         RETURNING id, epoch, kind, lane, seq, bot_id, payload, attempts, stop_requested, created_at"
    )
}

fn claimed(row: &sqlx::any::AnyRow) -> Result<Claimed> {
    Ok(Claimed {
        ticket: Ticket { job: JobId::new(row.text("id")?), epoch: row.int("epoch")? },
        kind: row.text("kind")?,
        lane: row.text("lane")?,
        seq: row.int("seq")?,
        bot: row.maybe_text("bot_id")?.map(BotId::new),
        payload: row.text("payload")?,
        attempts: row.int("attempts")?,
        stop_requested: row.flag("stop_requested")?,
        created_at: Time(row.int("created_at")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scratch, plan};

    #[tokio::test]
    async fn no_statement_that_runs_all_day_walks_through_the_table() {
        let scratch = Scratch::sqlite().await;
        let mut tx = scratch.store.read().await.expect("a connection");

        let claim = plan(&mut tx, claim_text(Dialect::Sqlite)).await.join("\n");
        assert!(claim.contains("SEARCH j USING INDEX jobs_due (queue=? AND available_at<?)"), "{claim}");
        assert!(claim.contains("SEARCH k USING INDEX jobs_lane (lane=? AND seq<?)"), "{claim}");
        assert!(claim.contains("SEARCH jobs USING COVERING INDEX sqlite_autoindex_jobs_1 (id=?)"), "{claim}");
        // In the order of the index, so that the limit ends the search.
        assert!(!claim.contains("ORDER BY"), "{claim}");
        assert_eq!(claim.replace("SCAN head", "").matches("SCAN").count(), 0, "{claim}");

        let hold = plan(&mut tx, HOLD).await;
        assert_eq!(hold, ["SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"]);
    }
}
