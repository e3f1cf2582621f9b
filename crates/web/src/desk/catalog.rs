//! Who serves models, which models there are, and what they cost: the catalog, edited while everything runs.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon::catalog::{
    Condition, DeploymentSpec, EditError, KeyFrom, KeyWord, Kind, ModelSpec, RatesSpec, UpstreamSpec,
};
use salon_core::Micros;
use serde::Deserialize;

use super::clerk::Desk;
use super::prices::{PriceForm, PriceRow, RatesForm};
use super::{Said, prices};
use crate::Web;
use crate::site::see;
use crate::site::shell::{Shell, page as shown, page_as};
use crate::site::visitor::Filled;

/// Names of models that a test shows.
const NAMED: usize = 12;

#[derive(Template)]
#[template(path = "desk/models.html")]
pub(super) struct ModelsPage {
    shell: Shell,
    upstreams: Vec<UpstreamRow>,
    models: Vec<ModelRow>,
    prices: Vec<PriceRow>,
    problems: Vec<String>,
    upstream: UpstreamForm,
    model: ModelForm,
    pub price: PriceForm,
    upstream_wrong: Option<String>,
    model_wrong: Option<String>,
    pub price_wrong: Option<String>,
    /// What an upstream said when it was asked, and whether it was well.
    tested: Option<(bool, String)>,
}

struct UpstreamRow {
    name: String,
    kind: &'static str,
    place: String,
    key: String,
    org: Option<String>,
    /// Nobody is resting, and the last thing that went wrong otherwise.
    well: bool,
    health: String,
}

struct ModelRow {
    name: String,
    places: String,
    price: Option<(String, bool)>,
    context: Option<i64>,
    hidden: bool,
    orgs: String,
}

impl ModelsPage {
    fn kinds(&self) -> [&'static str; 7] {
        Kind::ALL.map(Kind::as_str)
    }

    /// What has a price of its own, in the order of the list's columns.
    fn classes(&self) -> [&'static str; 8] {
        [
            "input_price",
            "output_price",
            "cache_read",
            "cache_write_5m",
            "cache_write_1h",
            "reasoning",
            "audio_in",
            "audio_out",
        ]
    }

    fn keys(&self) -> [&'static str; 4] {
        ["vault", "caller", "none", "env"]
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    upstream: String,
    model: String,
    /// The price that is to be changed: whose, of which model, from which day on.
    provider: String,
    priced: String,
    from: String,
    done: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    kind: String,
    base_url: String,
    key: String,
    key_env: String,
    provider: String,
    at_once: String,
    any_model: String,
    catch_all: String,
    off: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    at: String,
    fallback: String,
    aliases: String,
    context: String,
    output: String,
    most_output: String,
    #[serde(flatten)]
    rates: RatesForm,
    hidden: String,
    off: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
}

pub(crate) async fn page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    desk.house()?;
    let shell = desk.noticing("models", asked.done.as_deref());
    let mut page = look(&web, shell);
    if let Some(spec) = web.relay.catalog.find_upstream_spec(&asked.upstream) {
        page.upstream = upstream_form(&asked.upstream, &spec);
    }
    if let Some(spec) = web.relay.catalog.find_model_spec(&asked.model) {
        page.model = model_form(&asked.model, &spec);
    }
    if let Some(form) = prices::form(&web, &asked.provider, &asked.priced, &asked.from) {
        page.price = form;
    }
    Ok(shown(&page))
}

pub(super) fn look(web: &Web, shell: Shell) -> ModelsPage {
    let snapshot = web.relay.catalog.snapshot();
    let health = snapshot.health();
    let upstreams = snapshot.upstreams().map(|upstream| {
        let asked: Vec<_> = health.iter().filter(|standing| standing.upstream == upstream.name).collect();
        let worst = asked.iter().find(|standing| standing.view.condition != Condition::Well);
        let last = asked.iter().find_map(|standing| standing.view.last);
        let tries: u64 = asked.iter().map(|standing| standing.view.tries).sum();
        let faults: u64 = asked.iter().map(|standing| standing.view.faults).sum();
        let mut said = format!("{faults} / {tries}");
        if let Some(fault) = last {
            said.push_str(&format!(" · {}", fault.code()));
        }
        if let Some(standing) = worst {
            let rest = match standing.view.condition {
                Condition::Resting(rest) => rest,
                Condition::Well | Condition::Probing => Duration::ZERO,
            };
            said.push_str(&format!(" · {} {} s", standing.view.condition.as_str(), rest.as_secs()));
        }
        UpstreamRow {
            name: upstream.name.clone(),
            kind: upstream.kind.as_str(),
            place: upstream.base.as_ref().map_or_else(String::new, ToString::to_string),
            key: match &upstream.key {
                KeyFrom::Nowhere => "–".to_owned(),
                KeyFrom::Environment { name, key: Some(_) } => name.clone(),
                KeyFrom::Environment { name, key: None } => format!("{name} ✗"),
                KeyFrom::Vault => "vault".to_owned(),
                KeyFrom::Caller => "caller".to_owned(),
            },
            org: upstream.org.as_ref().map(ToString::to_string),
            well: worst.is_none(),
            health: said,
        }
    });
    let models = snapshot.models().map(|model| {
        let places = model.deployments.iter().map(|place| format!("{}/{}", place.upstream.name, place.model));
        let priced = model.deployments.iter().find_map(|place| place.priced(shell.now));
        ModelRow {
            name: model.name.clone(),
            places: places.collect::<Vec<_>>().join(", "),
            price: priced.map(|priced| {
                let usual = priced.rates.usual;
                (format!("${} / ${}", Micros(usual.input), Micros(usual.output)), priced.known)
            }),
            context: model.context,
            hidden: model.hidden,
            orgs: model.orgs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    });
    ModelsPage {
        upstreams: upstreams.collect(),
        models: models.collect(),
        prices: prices::rows(web),
        problems: snapshot.problems.clone(),
        upstream: UpstreamForm { key: "vault".to_owned(), any_model: "on".to_owned(), ..UpstreamForm::default() },
        model: ModelForm::default(),
        price: PriceForm::default(),
        upstream_wrong: None,
        model_wrong: None,
        price_wrong: None,
        tested: None,
        shell,
    }
}

fn upstream_form(name: &str, spec: &UpstreamSpec) -> UpstreamForm {
    let on = |is: bool| if is { "on".to_owned() } else { String::new() };
    UpstreamForm {
        name: name.to_owned(),
        kind: spec.kind.map_or("", Kind::as_str).to_owned(),
        base_url: spec.base_url.clone().unwrap_or_default(),
        key: match (&spec.key_env, spec.key) {
            (Some(_), _) => "env",
            (None, Some(word)) => word.as_str(),
            (None, None) => "none",
        }
        .to_owned(),
        key_env: spec.key_env.clone().unwrap_or_default(),
        provider: spec.provider.clone().unwrap_or_default(),
        at_once: spec.at_once.map_or_else(String::new, |cap| cap.to_string()),
        any_model: on(spec.any_model != Some(false)),
        catch_all: on(spec.catch_all),
        off: on(spec.off),
        ..UpstreamForm::default()
    }
}

fn model_form(name: &str, spec: &ModelSpec) -> ModelForm {
    let on = |is: bool| if is { "on".to_owned() } else { String::new() };
    let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    let alone = spec.upstream.as_ref().map(|upstream| DeploymentSpec {
        upstream: upstream.clone(),
        model: spec.model.clone(),
        weight: None,
    });
    let places = spec.deployments.iter().chain(&alone).map(|place| {
        let mut text = place.upstream.clone();
        if let Some(model) = &place.model {
            text.push_str(&format!("/{model}"));
        }
        if let Some(weight) = place.weight {
            text.push_str(&format!("={weight}"));
        }
        text
    });
    ModelForm {
        name: name.to_owned(),
        at: places.collect::<Vec<_>>().join(", "),
        fallback: spec.fallback.join(", "),
        aliases: spec.aliases.join(", "),
        context: number(spec.context),
        output: number(spec.output),
        most_output: number(spec.most_output),
        rates: spec.rates.as_ref().map(RatesForm::of).unwrap_or_default(),
        hidden: on(spec.hidden),
        off: on(spec.off),
        ..ModelForm::default()
    }
}

pub(super) fn said(text: &str) -> Option<String> {
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn names(text: &str) -> Vec<String> {
    text.split(',').filter_map(said).collect()
}

/// How an edit ended: with the word for what was done, or with a sentence for what is wrong; or with a page, if it is not
/// about what was entered. `false` says that there is nothing of that name.
pub(super) fn outcome(
    desk: &Desk,
    done: &'static str,
    edit: Result<bool, EditError>,
) -> Result<Result<&'static str, String>, Response> {
    match edit {
        Ok(true) => Ok(Ok(done)),
        Ok(false) => Err(desk.missing()),
        Err(EditError::Store(error)) => Err(desk.broken(&error)),
        Err(error) => {
            let (shell, (code, about)) = (desk.shell("models"), error.code());
            let said = shell.lang.find(&format!("page.catalog.{code}"), &[("name", about)]);
            Ok(Err(said.unwrap_or_else(|| shell.t1("desk.wrong.catalog", "why", error))))
        }
    }
}

/// What follows an edit: the list, or the page again with what `tell` puts on it.
pub(super) fn edited(
    web: &Web,
    desk: &Desk,
    edit: Result<&'static str, String>,
    tell: impl FnOnce(&mut ModelsPage, String),
) -> Said {
    let wrong = match edit {
        Ok(done) => return Ok(see(&format!("/admin/models?done={done}"))),
        Err(wrong) => wrong,
    };
    let mut page = look(web, desk.shell("models"));
    tell(&mut page, wrong);
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

pub(crate) async fn set_upstream(State(web): State<Web>, Filled(desk, form): Filled<Desk, UpstreamForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/models")?;
    let name = form.name.trim();
    // What this form does not ask for stays as it is.
    let mut spec = web.relay.catalog.find_upstream_spec(name).unwrap_or_default();
    spec.kind = Kind::parse(&form.kind);
    spec.base_url = said(&form.base_url);
    (spec.key, spec.key_env) = match form.key.as_str() {
        "env" => (None, said(&form.key_env)),
        word => (KeyWord::ALL.into_iter().find(|known| known.as_str() == word), None),
    };
    spec.provider = said(&form.provider);
    spec.at_once = form.at_once.trim().parse().ok().filter(|cap| *cap > 0);
    spec.any_model = if form.any_model == "on" { None } else { Some(false) };
    spec.catch_all = form.catch_all == "on";
    spec.off = form.off == "on";
    let edit = web.relay.catalog.set_upstream(&desk.pen(&web), name, &spec).await.map(|()| true);
    let edit = outcome(&desk, "saved", edit)?;
    edited(&web, &desk, edit, |page, wrong| (page.upstream, page.upstream_wrong) = (form, Some(wrong)))
}

pub(crate) async fn remove_upstream(State(web): State<Web>, Filled(desk, form): Filled<Desk, NameForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/models")?;
    let edit = web.relay.catalog.remove_upstream(&desk.pen(&web), &form.name).await;
    let edit = outcome(&desk, "removed", edit)?;
    edited(&web, &desk, edit, |page, wrong| page.upstream_wrong = Some(wrong))
}

/// Asks an upstream for its models, with the house's key.
pub(crate) async fn test(State(web): State<Web>, Filled(desk, form): Filled<Desk, NameForm>) -> Said {
    desk.wide()?;
    web.relay.catalog.decide().await;
    let Some(answer) = web.relay.catalog.check(&form.name).await else { return Err(desk.missing()) };
    let shell = desk.shell("models");
    let told = match answer {
        Ok(models) => {
            let clean = |name: &String| name.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
            let mut names = models.iter().take(NAMED).map(clean).collect::<Vec<_>>().join(", ");
            if models.len() > NAMED {
                names.push_str(", …");
            }
            let count = models.len().to_string();
            (
                true,
                format!(
                    "{}: {}",
                    form.name,
                    shell.t2("desk.models.well", &("count", count.as_str()), &("names", names.as_str()))
                ),
            )
        }
        Err(fault) => (false, format!("{}: {}", form.name, fault.sentence())),
    };
    let mut page = look(&web, shell);
    page.tested = Some(told);
    Ok(shown(&page))
}

pub(crate) async fn set_model(State(web): State<Web>, Filled(desk, form): Filled<Desk, ModelForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/models")?;
    let name = form.name.trim();
    let mut spec = web.relay.catalog.find_model_spec(name).unwrap_or_default();
    let edit = match fill(&mut spec, &form) {
        Some(key) => Err(desk.shell("models").t(key)),
        None => {
            let edit = web.relay.catalog.set_model(&desk.pen(&web), name, &spec).await.map(|()| true);
            outcome(&desk, "saved", edit)?
        }
    };
    edited(&web, &desk, edit, |page, wrong| (page.model, page.model_wrong) = (form, Some(wrong)))
}

/// Fills in what the form says; or answers what is wrong with it.
fn fill(spec: &mut ModelSpec, form: &ModelForm) -> Option<&'static str> {
    let places: Option<Vec<DeploymentSpec>> = names(&form.at).iter().map(|text| place(text)).collect();
    match places {
        Some(places) if !places.is_empty() => spec.deployments = places,
        _ => return Some("desk.wrong.places"),
    }
    (spec.upstream, spec.model) = (None, None);
    spec.fallback = names(&form.fallback);
    spec.aliases = names(&form.aliases);
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        text => text.parse::<i64>().ok().filter(|number| *number > 0).map(Some),
    };
    let (Some(context), Some(output), Some(most)) =
        (number(&form.context), number(&form.output), number(&form.most_output))
    else {
        return Some("desk.wrong.tokens");
    };
    (spec.context, spec.output, spec.most_output) = (context, output, most);
    match form.rates.spec() {
        // Those of tiers are not in the form, and stay.
        Ok(rates) => {
            let tiers = spec.rates.take().and_then(|rates| rates.tiers);
            spec.rates = rates.map(|rates| RatesSpec { tiers, ..rates });
        }
        Err(wrong) => return Some(wrong),
    }
    spec.hidden = form.hidden == "on";
    spec.off = form.off == "on";
    None
}

/// Reads `UPSTREAM`, `UPSTREAM/MODEL` or `UPSTREAM/MODEL=WEIGHT`.
fn place(text: &str) -> Option<DeploymentSpec> {
    let (place, weight) = match text.split_once('=') {
        Some((place, weight)) => (place, Some(weight.trim().parse().ok()?)),
        None => (text, None),
    };
    let (upstream, model) = place.split_once('/').map_or((place, None), |(upstream, model)| (upstream, Some(model)));
    let named = !upstream.trim().is_empty();
    named.then(|| DeploymentSpec { upstream: upstream.trim().to_owned(), model: model.and_then(said), weight })
}

pub(crate) async fn remove_model(State(web): State<Web>, Filled(desk, form): Filled<Desk, NameForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/models")?;
    let edit = web.relay.catalog.remove_model(&desk.pen(&web), &form.name).await;
    let edit = outcome(&desk, "removed", edit)?;
    edited(&web, &desk, edit, |page, wrong| page.model_wrong = Some(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_the_command_line_reads_them() {
        let read = |text: &str| place(text).map(|place| (place.upstream, place.model, place.weight));
        assert_eq!(read("openai"), Some(("openai".to_owned(), None, None)));
        assert_eq!(read("openai/gpt-4o=3"), Some(("openai".to_owned(), Some("gpt-4o".to_owned()), Some(3))));
        assert_eq!(read("hub/meta/llama"), Some(("hub".to_owned(), Some("meta/llama".to_owned()), None)));
        assert_eq!((read("/gpt"), read("openai=much")), (None, None));
    }
}
