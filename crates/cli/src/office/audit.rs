//! `salon audit`.

use anyhow::{Context, Result};
use clap::Subcommand;
use salon::audit::{self, anchors};
use salon_core::{Time, Zone};
use salon_store::{AuditFilter, AuditLine};
use serde_json::{Value, json};

use super::{Room, Told};
use crate::common::Common;

/// Lines that are shown if nobody says how many.
const SHOWN: i64 = 100;

#[derive(Subcommand, Debug)]
pub enum AuditCommand {
    /// Look whether the audit is whole: each line as it was written, none missing, none cut off
    Verify {
        #[command(flatten)]
        common: Common,
    },
    /// Show what was done, the newest first
    List {
        #[command(flatten)]
        common: Common,
        /// Since when: a day such as 2027-01-31, or 12h, 30d or 8w ago
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
        /// Only this, such as login.begin or limit.changed
        #[arg(long)]
        action: Option<String>,
        /// Only what this person did, by their id; or operator, guest or salon
        #[arg(long)]
        actor: Option<String>,
        /// How many lines
        #[arg(long, default_value_t = SHOWN, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
}

impl AuditCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            AuditCommand::Verify { common } | AuditCommand::List { common, .. } => common,
        }
    }

    pub(super) async fn perform(self, room: &Room) -> Result<Told> {
        match self {
            AuditCommand::Verify { .. } => verify(room).await,
            AuditCommand::List { since, action, actor, limit, json, .. } => {
                let since = since.map(|text| moment(&text, room.salon.clock.now())).transpose()?;
                let filter = AuditFilter { action, actor, since, ..AuditFilter::default() };
                let lines = room.salon.store.read().await?.list_audit(&filter, limit).await?;
                let shown = lines.iter().map(|line| if json { object(line).to_string() } else { shown(line) });
                Ok(Told::lines(shown.collect(), "Nothing of that kind."))
            }
        }
    }
}

async fn verify(room: &Room) -> Result<Told> {
    let (anchors, strange) = anchors::read(&room.data).context("the anchors cannot be read")?;
    let verdict = audit::verify(&room.salon.store, &room.salon.keys, &anchors).await?;
    let mut text = match &verdict.flaw {
        Some(flaw) => format!("NOT WHOLE: {flaw}. {} lines before that hang together.", verdict.lines),
        None => format!("{} lines, whole; {} anchors agree.", verdict.lines, verdict.anchors),
    };
    if strange > 0 {
        text.push_str(&format!("\n{strange} lines of {} are no anchors; somebody has edited it.", anchors::FILE));
    }
    Ok(Told { text, note: String::new(), trouble: verdict.flaw.is_some() || strange > 0 })
}

/// A day, or a while ago.
fn moment(text: &str, now: Time) -> Result<Time> {
    let zone = Zone::utc();
    let day = zone.midnight(text);
    let ago = || zone.moment(text, now).map(|then| now - then.since(now));
    day.or_else(ago).with_context(|| format!("{text:?} is no time; say a day such as 2027-01-31, or 12h, 30d or 8w"))
}

fn shown(line: &AuditLine) -> String {
    let result = if line.result == "ok" { String::new() } else { format!("  {}", line.result.to_uppercase()) };
    let detail = if line.detail == "{}" { String::new() } else { format!("  {}", line.detail) };
    let when = Zone::utc().stamp(line.at);
    format!("{}  {when}  {}  {}  {}{result}{detail}", line.seq, line.actor, line.action, line.object)
}

fn object(line: &AuditLine) -> Value {
    json!({
        "seq": line.seq, "at_ms": line.at.0, "actor": line.actor, "org": line.org.as_str(), "action": line.action,
        "object": line.object, "result": line.result,
        "detail": serde_json::from_str(&line.detail).unwrap_or(Value::Null), "mac": line.mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_day_or_a_while_ago() {
        let now = Time(1_769_947_200_000);
        assert_eq!(moment("12h", now).expect("a while"), Time(now.0 - 12 * 3_600_000));
        assert_eq!(moment("2026-01-31", now).expect("a day"), Time(1_769_817_600_000));
        assert!(moment("soon", now).is_err());
    }
}
