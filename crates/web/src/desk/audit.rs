//! The audit: who did what, and whether it stands as it was written.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use salon::audit::{self, Action};
use salon_store::{AuditFilter, AuditLine};
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use crate::Web;
use crate::site::door::Nothing;
use crate::site::shell::{Shell, page as shown};
use crate::site::visitor::Filled;

const PAGE: i64 = 100;

#[derive(Template)]
#[template(path = "desk/audit.html")]
struct AuditPage {
    shell: Shell,
    lines: Vec<(AuditLine, Option<String>)>,
    asked: Asked,
    actions: Vec<&'static str>,
    next: Option<i64>,
    /// Whether it is whole, and in words.
    verdict: Option<(bool, String)>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    action: String,
    actor: String,
    before: String,
}

async fn look(web: &Web, desk: &Desk, asked: Asked, verdict: Option<(bool, String)>) -> Result<AuditPage, Response> {
    let said = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let filter = AuditFilter {
        org: Some(desk.org.id.clone()),
        action: said(&asked.action),
        actor: said(&asked.actor),
        since: None,
        before: asked.before.parse().ok(),
    };
    let found = async {
        let mut tx = web.salon.store.read().await?;
        Ok((tx.list_audit(&filter, PAGE).await?, tx.names_of(&desk.org.id).await?))
    };
    let found: Result<_, salon_store::Error> = found.await;
    let (lines, names) = found.map_err(|error| desk.broken(&error))?;
    let next = lines.last().filter(|_| lines.len() as i64 == PAGE).map(|line| line.seq);
    let lines = lines.into_iter().map(|line| {
        let name = names.iter().find(|(id, _)| id.as_str() == line.actor).map(|(_, name)| name.clone());
        (line, name)
    });
    let actions = Action::ALL.iter().map(|action| action.as_str()).collect();
    Ok(AuditPage { shell: desk.shell("audit"), lines: lines.collect(), asked, actions, next, verdict })
}

pub(crate) async fn page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    desk.admin()?;
    Ok(shown(&look(&web, &desk, asked, None).await?))
}

/// Looks through the whole chain, and compares it with the anchors beside the data.
pub(crate) async fn verify(State(web): State<Web>, Filled(desk, _): Filled<Desk, Nothing>) -> Said {
    desk.wide()?;
    let shell = desk.shell("audit");
    let anchors = web.doors.anchors().unwrap_or_else(|error| {
        tracing::warn!(%error, "the audit's anchors cannot be read");
        Vec::new()
    });
    let verdict = audit::verify(&web.salon.store, &web.salon.keys, &anchors).await;
    let verdict = verdict.map_err(|error| desk.broken(&error))?;
    let told = match &verdict.flaw {
        None => {
            let (lines, anchors) = (verdict.lines.to_string(), verdict.anchors.to_string());
            (true, shell.t2("desk.audit.whole", &("lines", lines.as_str()), &("anchors", anchors.as_str())))
        }
        Some(flaw) => (false, shell.t1("desk.audit.broken", "why", flaw)),
    };
    Ok(shown(&look(&web, &desk, Asked::default(), Some(told)).await?))
}

impl AuditPage {
    fn may_verify(&self) -> bool {
        self.shell.wide
    }
}
