//! Panels: several models that answer together, as a person or their team arranged them.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use salon::logins::Visit;
use salon::panels::{self, Found, PanelError, PanelSpec, VoiceSpec, Whose};
use salon_core::Owner;
use salon_core::panel::{Gate, MOST_VOICES, Panel, Part};
use salon_core::people::Role;

use super::account::Said;
use super::shell::{Place, Shell, page as shown, page_as};
use super::visitor::{Filled, Visitor};
use super::{broken, missing, see};
use crate::Web;

#[derive(Template)]
#[template(path = "site/panels.html")]
struct PanelsPage {
    shell: Shell,
    panels: Vec<Found>,
}

impl PanelsPage {
    fn voices(&self, panel: &Panel) -> String {
        panel.voices.iter().map(|voice| voice.name.as_str()).collect::<Vec<_>>().join(" → ")
    }

    fn whose(&self, found: &Found) -> String {
        self.shell.t(match found.whose {
            Whose::Own => "panels.own",
            Whose::Org => "panels.org",
            Whose::House => "panels.house",
        })
    }
}

#[derive(Template)]
#[template(path = "site/panel.html")]
struct PanelPage {
    shell: Shell,
    /// Empty where it is new.
    known: String,
    is_own: bool,
    name: String,
    gate: String,
    gate_model: String,
    rounds: String,
    ceiling: String,
    rows: Vec<Row>,
    models: Vec<String>,
    /// What is wrong, by the rules of panels.
    wrong: Option<String>,
}

impl PanelPage {
    fn parts(&self) -> [&'static str; 5] {
        Part::ALL.map(Part::as_str)
    }
}

/// A voice of the form; without a name it is none.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Where it sits.
    place: usize,
    name: String,
    part: String,
    model: String,
    cap: String,
    instruction: String,
    hears: String,
}

impl Row {
    fn is(&self, part: &str) -> bool {
        self.part == part
    }
}

type Fields = BTreeMap<String, String>;

fn shell_of(web: &Web, visit: &Visit, headers: &HeaderMap) -> Shell {
    Shell::visiting(web, visit, headers, Place::Panels)
}

pub(crate) async fn page(
    State(web): State<Web>,
    Query(said): Query<Said>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers).noticing(said.done.as_deref());
    match panels::list(&web.salon, &visit.caller).await {
        Ok(panels) => shown(&PanelsPage { shell, panels }),
        Err(error) => broken(&shell, &error),
    }
}

/// `GET /panels/new`: begins with the usual one.
pub(crate) async fn new_page(State(web): State<Web>, headers: HeaderMap, Visitor(visit): Visitor) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let page = form_of(&web, &visit, shell, &Panel::usual("my-panel"), String::new(), true).await;
    shown(&page)
}

/// `GET /panels/{panel}`
pub(crate) async fn edit_page(
    State(web): State<Web>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Visitor(visit): Visitor,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let found = panels::list(&web.salon, &visit.caller).await;
    match found.map(|found| found.into_iter().find(|found| found.panel.name == name)) {
        Ok(Some(found)) => {
            let is_own = found.whose == Whose::Own;
            shown(&form_of(&web, &visit, shell, &found.panel, name, is_own).await)
        }
        Ok(None) => missing(&shell),
        Err(error) => broken(&shell, &error),
    }
}

async fn form_of(web: &Web, visit: &Visit, shell: Shell, panel: &Panel, known: String, is_own: bool) -> PanelPage {
    let (gate, gate_model) = match &panel.gate {
        Gate::Rules => ("rules", String::new()),
        Gate::Always => ("always", String::new()),
        Gate::Never => ("never", String::new()),
        Gate::Model(model) => ("model", model.clone()),
    };
    let mut rows: Vec<Row> = panel
        .voices
        .iter()
        .map(|voice| Row {
            place: 0,
            name: voice.name.clone(),
            part: voice.part.as_str().to_owned(),
            model: voice.model.clone().unwrap_or_default(),
            cap: voice.cap.to_string(),
            instruction: voice.instruction.clone(),
            hears: voice.hears.join(", "),
        })
        .collect();
    rows.resize_with(MOST_VOICES, Row::default);
    PanelPage {
        known,
        is_own,
        name: panel.name.clone(),
        gate: gate.to_owned(),
        gate_model,
        rounds: panel.rounds.to_string(),
        ceiling: panel.ceiling.to_string(),
        rows: numbered(rows),
        models: models(web, visit).await,
        wrong: None,
        shell,
    }
}

fn numbered(mut rows: Vec<Row>) -> Vec<Row> {
    rows.iter_mut().enumerate().for_each(|(at, row)| row.place = at + 1);
    rows
}

async fn models(web: &Web, visit: &Visit) -> Vec<String> {
    let listed = web.relay.list(&visit.caller).await.unwrap_or_default();
    listed.into_iter().map(|listed| listed.model.name.clone()).collect()
}

/// What stands in the form, in the order that its numbers say.
fn read(fields: &Fields) -> (String, PanelSpec, Vec<Row>) {
    let field = |name: &str| fields.get(name).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut rows: Vec<(usize, Row)> = (1..=MOST_VOICES)
        .map(|n| {
            let of = |word: &str| field(&format!("{word}{n}"));
            let row = Row {
                place: n,
                name: of("voice"),
                part: of("part"),
                model: of("model"),
                cap: of("cap"),
                instruction: of("instruction"),
                hears: of("hears"),
            };
            (of("place").parse().unwrap_or(n), row)
        })
        .collect();
    // Rows without a name last, so that there is room at the end.
    rows.sort_by_key(|(place, row)| (row.name.is_empty(), *place));
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let gate = match field("gate").as_str() {
        "model" => format!("model:{}", field("gate_model")),
        other => other.to_owned(),
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let voices = rows.iter().filter(|row| !row.name.is_empty()).map(|row| VoiceSpec {
        name: row.name.clone(),
        part: row.part.clone(),
        model: some(row.model.clone()),
        instruction: some(row.instruction.clone()),
        cap: some(row.cap.clone()).map(|cap| cap.parse().unwrap_or(0)),
        hears: row.hears.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    });
    let spec = PanelSpec {
        gate: some(gate),
        rounds: some(field("rounds")).map(|rounds| rounds.parse().unwrap_or(0)),
        ceiling: some(field("ceiling")),
        voices: voices.collect(),
    };
    (field("name"), spec, numbered(rows))
}

/// `POST /panels`: keeps it under its name.
pub(crate) async fn save(
    State(web): State<Web>,
    headers: HeaderMap,
    Filled(Visitor(visit), fields): Filled<Visitor, Fields>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let (name, spec, rows) = read(&fields);
    let for_all = fields.get("for").is_some_and(|word| word == "org");
    let owner = match for_all && visit.account.role() >= Role::Admin {
        true => Owner::Org(visit.account.user.org.clone()),
        false => Owner::User(visit.account.user.id.clone()),
    };
    let saved = async {
        // Without a voice it would be the usual one, which nobody asked for.
        let panel =
            if spec.voices.is_empty() { Err(salon_core::panel::Wrong::Count.into()) } else { spec.panel(&name) };
        panels::save(&web.salon, &visit.caller, owner, &panel?).await
    };
    match saved.await {
        Ok(()) => see("/panels?done=saved"),
        Err(PanelError::Store(error)) => broken(&shell, &error),
        Err(wrong) => {
            let (gate, gate_model) = match spec.gate.as_deref().unwrap_or_default().split_once(':') {
                Some((_, model)) => ("model".to_owned(), model.to_owned()),
                None => (spec.gate.unwrap_or_default(), String::new()),
            };
            let page = PanelPage {
                known: fields.get("known").cloned().unwrap_or_default(),
                is_own: false,
                name,
                gate,
                gate_model,
                rounds: fields.get("rounds").cloned().unwrap_or_default(),
                ceiling: fields.get("ceiling").cloned().unwrap_or_default(),
                rows,
                models: models(&web, &visit).await,
                wrong: Some(wrong.to_string()),
                shell,
            };
            page_as(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
    }
}

/// `POST /panels/{panel}/remove`: one's own. What the team or the house calls so is there again.
pub(crate) async fn remove(
    State(web): State<Web>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Fields>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let owner = Owner::User(visit.account.user.id.clone());
    match panels::remove(&web.salon, &visit.caller, owner, &name).await {
        Ok(true) => see("/panels?done=gone"),
        Ok(false) => missing(&shell),
        Err(PanelError::Store(error)) => broken(&shell, &error),
        Err(_) => missing(&shell),
    }
}

#[cfg(test)]
mod tests {
    use salon_core::Micros;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn voices_sit_where_their_numbers_say_and_those_without_a_name_do_not_sit() {
        let (name, spec, rows) = read(&fields(&[
            ("name", " law "),
            ("gate", "model"),
            ("gate_model", "gpt"),
            ("ceiling", "0.05"),
            ("voice1", "Synth"),
            ("part1", "synth"),
            ("place1", "3"),
            ("voice3", "Solver"),
            ("part3", "solver"),
            ("place3", "1"),
            ("cap3", "300"),
            ("voice4", "Lawyer"),
            ("part4", "adviser"),
            ("place4", "2"),
            ("instruction4", "What does the law say?"),
        ]));
        assert_eq!(name, "law");
        let names: Vec<_> = spec.voices.iter().map(|voice| voice.name.as_str()).collect();
        assert_eq!(names, ["Solver", "Lawyer", "Synth"]);
        assert_eq!((rows.len(), rows[0].place, rows[5].name.as_str()), (6, 1, ""));
        let panel = spec.panel(&name).expect("a panel");
        assert_eq!((panel.gate, panel.ceiling, panel.voices[0].cap), (Gate::Model("gpt".into()), Micros(50_000), 300));
    }

    #[test]
    fn what_is_no_number_is_not_taken_for_one() {
        let (name, spec, _) = read(&fields(&[("name", "x"), ("voice1", "S"), ("part1", "solver"), ("cap1", "many")]));
        assert!(spec.panel(&name).is_err());
    }
}
