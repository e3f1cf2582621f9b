//! Statistics of a period: by day, by model, by person.

use std::collections::HashMap;

use askama::Template;
use axum::extract::{Query, State};
use salon::people::DEFAULT_ORG;
use salon_core::{Micros, OrgId, UserId};
use salon_store::Counts;
use salon_store::ledger::{DayUsage, ModelUsage, Usage, UsageFilter, UserUsage};

use super::Said;
use super::clerk::Desk;
use crate::Web;
use crate::site::chart::{Bar, ranks};
use crate::site::shell::{Shell, grouped, page as shown};
use crate::site::usage::{Asked, Span, calls_by_day, used_by_day};

const LISTED: i64 = 200;
/// Bars of a chart that is not by day.
const CHARTED: usize = 10;
/// Characters of a name in a chart.
const NAME: usize = 40;

#[derive(Template)]
#[template(path = "desk/stats.html")]
struct StatsPage {
    shell: Shell,
    span: Span,
    counts: Counts,
    used: Usage,
    days: Vec<DayUsage>,
    models: Vec<ModelUsage>,
    people: Vec<(UserUsage, Option<String>)>,
    by_day: String,
    calls_by_day: String,
    by_model: String,
    by_person: String,
}

pub(crate) async fn page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let shell = desk.shell("stats");
    let span = asked.span(&desk.caller.zone, desk.now);
    let filter = UsageFilter::of(desk.org.id.clone(), span.window.start, span.window.end);
    let looked = async {
        let mut tx = web.relay.book.read().await?;
        let counts = tx.count_desk(&desk.org.id, &OrgId::new(DEFAULT_ORG), filter.from, filter.to).await?;
        let used = tx.usage(&filter).await?;
        let days = tx.usage_by_day(&filter, &desk.caller.zone).await?;
        let models = tx.usage_by_model(&filter, LISTED).await?;
        let people = tx.usage_by_user(&filter, LISTED).await?;
        let names: HashMap<UserId, String> = tx.names_of(&desk.org.id).await?.into_iter().collect();
        Ok((counts, used, days, models, people, names))
    };
    let looked: Result<_, salon_store::Error> = looked.await;
    let (counts, used, days, models, people, names) = looked.map_err(|error| desk.broken(&error))?;
    let people: Vec<(UserUsage, Option<String>)> =
        people.into_iter().map(|used| (used.clone(), names.get(&used.user).cloned())).collect();
    let by_day = used_by_day(&days, &span, &desk.caller.zone, &shell.t("usage.chart"));
    let calls_by_day = calls_by_day(&days, &span, &desk.caller.zone, &shell.t("desk.stats.calls_chart"));
    let of = |label: &str, usage: &Usage| {
        let by_money = used.micros > 0;
        let value = if by_money { usage.micros } else { usage.tokens.total() };
        let shown = if by_money { format!("${}", Micros(value)) } else { grouped(value) };
        Bar { label: label.chars().take(NAME).collect(), value, shown }
    };
    let of_models: Vec<Bar> = models.iter().take(CHARTED).map(|model| of(&model.model, &model.usage)).collect();
    let of_people: Vec<Bar> =
        people.iter().take(CHARTED).map(|(used, name)| of(name.as_deref().unwrap_or("–"), &used.usage)).collect();
    let by_model = ranks(&of_models, &shell.t("usage.models"));
    let by_person = ranks(&of_people, &shell.t("desk.stats.people"));
    Ok(shown(&StatsPage { shell, span, counts, used, days, models, people, by_day, calls_by_day, by_model, by_person }))
}
