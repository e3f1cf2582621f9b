//! The first page of the desk: how much there is, how the bots are doing, and what was used when.

use askama::Template;
use axum::extract::{Query, State};
use salon::people::DEFAULT_ORG;
use salon_core::OrgId;
use salon_store::Counts;
use salon_store::ledger::{DayUsage, ModelUsage, Usage, UsageFilter};
use serde::Deserialize;

use super::Said;
use super::bots::Kept;
use super::clerk::Desk;
use crate::Web;
use crate::site::shell::{Shell, page as shown};
use crate::site::usage::{Asked, Span, used_by_day};

const MODELS: i64 = 5;

#[derive(Template)]
#[template(path = "desk/overview.html")]
struct OverviewPage {
    shell: Shell,
    org: String,
    span: Span,
    counts: Counts,
    used: Usage,
    chart: String,
    days: Vec<DayUsage>,
    models: Vec<ModelUsage>,
    bots: Vec<Kept>,
    held: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Told {
    pub done: Option<String>,
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(asked): Query<Asked>,
    Query(said): Query<Told>,
    desk: Desk,
) -> Said {
    let shell = desk.noticing("overview", said.done.as_deref());
    let span = asked.span(&desk.caller.zone, desk.now);
    let looked = async {
        let filter = UsageFilter::of(desk.org.id.clone(), span.window.start, span.window.end);
        let mut tx = web.relay.book.read().await?;
        let counts = tx.count_desk(&desk.org.id, &OrgId::new(DEFAULT_ORG), span.window.start, span.window.end).await?;
        let used = tx.usage(&filter).await?;
        let models = tx.usage_by_model(&filter, MODELS).await?;
        let days = tx.usage_by_day(&filter, &desk.caller.zone).await?;
        let held = tx.list_held(&desk.org.id, None, 100).await?.len();
        Ok((counts, used, models, days, held))
    };
    let looked: Result<_, salon_store::Error> = looked.await;
    let (counts, used, models, days, held) = looked.map_err(|error| desk.broken(&error))?;
    let chart = used_by_day(&days, &span, &desk.caller.zone, &shell.t("usage.chart"));
    let bots = if desk.is_of_house() { super::bots::list(&web).await } else { Ok(Vec::new()) };
    let bots = bots.map_err(|error| desk.broken(&error))?;
    let org = desk.org.name.clone();
    Ok(shown(&OverviewPage { shell, org, span, counts, used, chart, days, models, bots, held }))
}
