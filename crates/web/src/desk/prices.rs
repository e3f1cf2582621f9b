//! What models cost, in dollars for a million tokens: every class there is, from which day on, and the price of a call that
//! reads very much.

use axum::extract::State;
use salon::catalog::{DatedPrice, LongSpec, RatesSpec};
use salon_core::{Micros, Rates, TierRates, Tiers};
use serde::Deserialize;

use super::Said;
use super::catalog::{edited, outcome, said};
use super::clerk::Desk;
use crate::Web;
use crate::site::visitor::Filled;

/// A line of the list: the prices of a model from a day on, or those beyond its border.
pub(super) struct PriceRow {
    pub provider: String,
    pub model: String,
    /// The day; empty where the price is a model's own, which counts always.
    pub from: String,
    /// The tier at which these count, if they are not the usual ones.
    pub tier: Option<&'static str>,
    /// The tokens that a call reads beyond which these count.
    pub above: Option<i64>,
    pub cells: [String; 8],
    pub said: bool,
    pub counts: bool,
}

impl PriceRow {
    pub fn name(&self) -> String {
        if self.provider.is_empty() { self.model.clone() } else { format!("{}/{}", self.provider, self.model) }
    }
}

/// Prices as they stand in a form. Empty is what follows from the rest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RatesForm {
    pub input_price: String,
    pub output_price: String,
    pub cache_read: String,
    pub cache_write_5m: String,
    pub cache_write_1h: String,
    pub reasoning: String,
    pub audio_in: String,
    pub audio_out: String,
    pub long_above: String,
    pub long_input: String,
    pub long_output: String,
    pub long_cache_read: String,
    pub long_cache_write_5m: String,
    pub long_cache_write_1h: String,
}

impl RatesForm {
    pub fn of(spec: &RatesSpec) -> RatesForm {
        let text = |price: &Option<String>| price.clone().unwrap_or_default();
        let long = spec.long.clone();
        let above = long.as_ref().map_or_else(String::new, |long| long.above.to_string());
        let long = long.unwrap_or_default();
        RatesForm {
            input_price: spec.input.clone(),
            output_price: spec.output.clone(),
            cache_read: text(&spec.cache_read),
            cache_write_5m: text(&spec.cache_write_5m),
            cache_write_1h: text(&spec.cache_write_1h),
            reasoning: text(&spec.reasoning),
            audio_in: text(&spec.audio_in),
            audio_out: text(&spec.audio_out),
            long_above: above,
            long_cache_read: text(&long.cache_read),
            long_cache_write_5m: text(&long.cache_write_5m),
            long_cache_write_1h: text(&long.cache_write_1h),
            long_input: long.input,
            long_output: long.output,
        }
    }

    /// What the form says, if it says anything; or what is wrong with it.
    pub fn spec(&self) -> Result<Option<RatesSpec>, &'static str> {
        let long = match (said(&self.long_above), said(&self.long_input), said(&self.long_output)) {
            (Some(above), Some(input), Some(output)) => Some(LongSpec {
                above: above.parse().ok().filter(|above| *above > 0).ok_or("desk.wrong.tokens")?,
                input,
                output,
                cache_read: said(&self.long_cache_read),
                cache_write_5m: said(&self.long_cache_write_5m),
                cache_write_1h: said(&self.long_cache_write_1h),
            }),
            (None, None, None) if self.is_short() => None,
            _ => return Err("desk.wrong.border"),
        };
        let (input, output) = match (said(&self.input_price), said(&self.output_price)) {
            (Some(input), Some(output)) => (input, output),
            (None, None) if long.is_none() && self.follows() => return Ok(None),
            _ => return Err("desk.wrong.price"),
        };
        let spec = RatesSpec {
            input,
            output,
            cache_read: said(&self.cache_read),
            cache_write_5m: said(&self.cache_write_5m),
            cache_write_1h: said(&self.cache_write_1h),
            reasoning: said(&self.reasoning),
            audio_in: said(&self.audio_in),
            audio_out: said(&self.audio_out),
            long,
            // Those of tiers are not in the form.
            tiers: None,
        };
        if spec.tariff().is_some() { Ok(Some(spec)) } else { Err("desk.wrong.dollars") }
    }

    /// Whether it says more than the two prices that everything follows from.
    pub fn has_more(&self) -> bool {
        !self.follows() || !is_blank(&self.long_above)
    }

    /// Nothing is said of what lies beyond a border.
    fn is_short(&self) -> bool {
        [&self.long_cache_read, &self.long_cache_write_5m, &self.long_cache_write_1h].iter().all(|text| is_blank(text))
    }

    /// Nothing is said beside the two prices that everything follows from.
    fn follows(&self) -> bool {
        let more = [&self.cache_read, &self.cache_write_5m, &self.cache_write_1h, &self.reasoning];
        more.iter().chain(&[&self.audio_in, &self.audio_out]).all(|text| is_blank(text))
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PriceForm {
    #[serde(rename = "seal")]
    _seal: String,
    pub provider: String,
    pub model: String,
    pub valid_from: String,
    #[serde(flatten)]
    pub rates: RatesForm,
    /// Whether it can be forgotten.
    #[serde(skip)]
    pub said: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhichForm {
    #[serde(rename = "seal")]
    _seal: String,
    provider: String,
    model: String,
    valid_from: String,
}

/// Every price: models' own first, then those of the lists.
pub(super) fn rows(web: &Web) -> Vec<PriceRow> {
    let snapshot = web.relay.catalog.snapshot();
    let own = snapshot.models().filter_map(|model| {
        let tariff = web.relay.catalog.find_model_spec(&model.name)?.rates?.tariff()?;
        let (provider, valid_from) = (String::new(), String::new());
        Some(DatedPrice { provider, model: model.name.clone(), valid_from, tariff, said: true, counts: true })
    });
    own.chain(web.relay.catalog.list_prices()).flat_map(lines).collect()
}

fn lines(price: DatedPrice) -> Vec<PriceRow> {
    let row = |tier, above: Option<i64>, rates: &Rates| PriceRow {
        provider: price.provider.clone(),
        model: price.model.clone(),
        from: price.valid_from.clone(),
        tier,
        above,
        cells: [
            rates.input,
            rates.output,
            rates.cache_read,
            rates.cache_write_5m,
            rates.cache_write_1h,
            rates.reasoning,
            rates.audio_in,
            rates.audio_out,
        ]
        .map(|price| Micros(price).to_string()),
        said: price.said,
        counts: price.counts,
    };
    let Tiers { flex, fast, ultrafast } = price.tariff.tiers.unwrap_or_default();
    let usual = TierRates { usual: price.tariff.usual, long: price.tariff.long };
    let tiers = [(None, Some(usual)), (Some("flex"), flex), (Some("fast"), fast), (Some("ultrafast"), ultrafast)];
    let known = tiers.into_iter().filter_map(|(tier, rates)| Some((tier, rates?)));
    known
        .flat_map(|(tier, TierRates { usual, long })| {
            let long = long.map(|long| row(tier, Some(long.above), &long.rates));
            [row(tier, None, &usual)].into_iter().chain(long)
        })
        .collect()
}

fn find(web: &Web, provider: &str, model: &str, from: &str) -> Option<DatedPrice> {
    let is_it = |price: &DatedPrice| price.provider == provider && price.model == model && price.valid_from == from;
    web.relay.catalog.list_prices().into_iter().find(is_it)
}

/// The form of a price that there is.
pub(super) fn form(web: &Web, provider: &str, model: &str, from: &str) -> Option<PriceForm> {
    let price = find(web, provider, model, from)?;
    Some(PriceForm {
        rates: RatesForm::of(&RatesSpec::of(&price.tariff)),
        provider: price.provider,
        model: price.model,
        valid_from: price.valid_from,
        said: price.said,
        ..PriceForm::default()
    })
}

pub(crate) async fn set(State(web): State<Web>, Filled(desk, form): Filled<Desk, PriceForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/models")?;
    let (provider, model, from) = (form.provider.trim(), form.model.trim(), form.valid_from.trim());
    let edit = match form.rates.spec().and_then(|rates| rates.ok_or("desk.wrong.price")) {
        Err(key) => Err(desk.shell("models").t(key)),
        Ok(mut rates) => {
            rates.tiers = find(&web, provider, model, from).and_then(|price| RatesSpec::of(&price.tariff).tiers);
            let edit = web.relay.catalog.set_price(&desk.pen(&web), provider, model, from, &rates).await;
            outcome(&desk, "saved", edit.map(|()| true))?
        }
    };
    edited(&web, &desk, edit, |page, wrong| (page.price, page.price_wrong) = (form, Some(wrong)))
}

pub(crate) async fn remove(State(web): State<Web>, Filled(desk, form): Filled<Desk, WhichForm>) -> Said {
    desk.wide()?;
    desk.proven("/admin/models")?;
    let catalog = &web.relay.catalog;
    let edit = catalog.remove_price(&desk.pen(&web), &form.provider, &form.model, &form.valid_from).await;
    let edit = outcome(&desk, "removed", edit)?;
    edited(&web, &desk, edit, |page, wrong| page.price_wrong = Some(wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> RatesForm {
        let fields: serde_json::Map<_, _> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), serde_json::Value::from(*value))).collect();
        serde_json::from_value(fields.into()).expect("a form")
    }

    #[test]
    fn what_is_written_down_comes_back_as_it_was() {
        let said = form(&[
            ("input_price", "1.25"),
            ("output_price", "10"),
            ("cache_read", "0.125"),
            ("audio_in", "3"),
            ("long_above", "200000"),
            ("long_input", "2.50"),
            ("long_output", "15"),
            ("long_cache_write_1h", "5"),
        ]);
        let spec = said.spec().expect("prices").expect("some");
        assert_eq!(RatesForm::of(&spec).spec(), Ok(Some(spec)));
        assert_eq!(form(&[("cache_read", " ")]).spec(), Ok(None));
    }

    #[test]
    fn half_a_price_is_told_what_it_lacks() {
        let usual = [("input_price", "1"), ("output_price", "2")];
        let with = |more: &[(&'static str, &'static str)]| form(&[&usual[..], more].concat()).spec();
        assert!(with(&[]).is_ok());
        assert_eq!(form(&usual[..1]).spec(), Err("desk.wrong.price"));
        assert_eq!(form(&[("reasoning", "1")]).spec(), Err("desk.wrong.price"));
        assert_eq!(with(&[("long_above", "5")]), Err("desk.wrong.border"));
        assert_eq!(with(&[("long_cache_read", "5")]), Err("desk.wrong.border"));
        let long = [("long_above", "-1"), ("long_input", "1"), ("long_output", "1")];
        assert_eq!(with(&long), Err("desk.wrong.tokens"));
        assert_eq!(with(&[("cache_read", "cheap")]), Err("desk.wrong.dollars"));
    }
}
