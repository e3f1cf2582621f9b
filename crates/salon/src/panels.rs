//! Panels as people arrange them: found by name, listed, saved and removed.
//!
//! A person's own panel wins over the organisation's, and that over the one in `salon.toml`. Where nobody has written one
//! down, `default` is there all the same, if the house has a usual model.

use salon_core::panel::{Gate, Panel, Part, USUAL_CEILING, Voice, Wrong};
use salon_core::people::Role;
use salon_core::{Micros, OrgId, Owner, UserId};
use salon_store::{Error, PanelRow, Tx};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

use crate::Salon;
use crate::access::Caller;
use crate::engines::{Answers, Engines, USUAL_MODEL};

/// The panel that is meant where nobody names one.
pub const DEFAULT: &str = "default";
/// Under `salon/<panel>` a panel is called as a model.
pub const AS_MODEL: &str = "salon/";

/// A panel as it is written down, in `salon.toml` and in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PanelSpec {
    /// `rules`, `always`, `never`, or `model:` and the name of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<i64>,
    /// Dollars, such as `"0.05"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<String>,
    /// Solver, critic, checker and synth if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<VoiceSpec>,
}

/// A voice as it is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VoiceSpec {
    pub name: String,
    /// `solver`, `critic`, `checker`, `adviser` or `synth`.
    pub part: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hears: Vec<String>,
}

/// Why a panel is not saved, or not removed. The sentences are for whoever tried.
#[derive(Debug, ThisError)]
pub enum PanelError {
    #[error(transparent)]
    Wrong(#[from] Wrong),
    #[error("A gate is rules, always, never, or model: and a model's name, not {0}.")]
    Gate(String),
    #[error("A part is solver, critic, checker, adviser or synth, not {0}.")]
    Part(String),
    #[error("A ceiling is in dollars, such as 0.05, not {0}.")]
    Ceiling(String),
    #[error("There is no model {0}.")]
    Model(String),
    #[error("Only administrators change the organisation's panels.")]
    NotYours,
    #[error(transparent)]
    Store(#[from] Error),
}

impl PanelSpec {
    pub fn panel(&self, name: &str) -> Result<Panel, PanelError> {
        let usual = Panel::usual(name);
        let gate = match self.gate.as_deref() {
            None | Some("rules") => Gate::Rules,
            Some("always") => Gate::Always,
            Some("never") => Gate::Never,
            Some(other) => match other.strip_prefix("model:").map(str::trim).filter(|model| !model.is_empty()) {
                Some(model) => Gate::Model(model.to_owned()),
                None => return Err(PanelError::Gate(shortened(other))),
            },
        };
        let ceiling = match &self.ceiling {
            None => USUAL_CEILING,
            Some(dollars) => Micros::parse(dollars.trim()).ok_or_else(|| PanelError::Ceiling(shortened(dollars)))?,
        };
        let voices = match self.voices.as_slice() {
            [] => usual.voices,
            voices => voices.iter().map(VoiceSpec::voice).collect::<Result<_, _>>()?,
        };
        let panel = Panel { gate, ceiling, voices, rounds: self.rounds.unwrap_or(usual.rounds), ..usual };
        panel.check()?;
        Ok(panel)
    }

    pub fn of(panel: &Panel) -> PanelSpec {
        let gate = match &panel.gate {
            Gate::Rules => "rules".to_owned(),
            Gate::Always => "always".to_owned(),
            Gate::Never => "never".to_owned(),
            Gate::Model(model) => format!("model:{model}"),
        };
        PanelSpec {
            gate: Some(gate),
            rounds: Some(panel.rounds),
            ceiling: Some(panel.ceiling.to_string()),
            voices: panel.voices.iter().map(VoiceSpec::of).collect(),
        }
    }
}

impl VoiceSpec {
    fn voice(&self) -> Result<Voice, PanelError> {
        let part = Part::parse(&self.part).ok_or_else(|| PanelError::Part(shortened(&self.part)))?;
        Ok(Voice {
            name: self.name.trim().to_owned(),
            part,
            model: self.model.clone().map(|model| model.trim().to_owned()).filter(|model| !model.is_empty()),
            instruction: self.instruction.clone().unwrap_or_default(),
            cap: self.cap.unwrap_or(part.usual_cap()),
            hears: self.hears.clone(),
        })
    }

    fn of(voice: &Voice) -> VoiceSpec {
        VoiceSpec {
            name: voice.name.clone(),
            part: voice.part.as_str().to_owned(),
            model: voice.model.clone(),
            instruction: Some(voice.instruction.clone()).filter(|text| !text.is_empty()),
            cap: Some(voice.cap),
            hears: voice.hears.clone(),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Which panel an engine's name means: `panel`, `panel:NAME`, or `salon/NAME`.
pub fn named(engine: &str) -> Option<&str> {
    if engine == "panel" {
        return Some(DEFAULT);
    }
    let name = engine.strip_prefix("panel:").or_else(|| engine.strip_prefix(AS_MODEL))?;
    salon_core::panel::is_name(name).then_some(name)
}

/// Where a panel was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Own,
    Org,
    House,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub panel: Panel,
    pub whose: Whose,
}

/// The panel of this name, as the caller sees it.
pub async fn find(salon: &Salon, caller: &Caller, name: &str) -> Result<Option<Panel>, Error> {
    let mut tx = salon.store.read().await?;
    find_within(&mut tx, &salon.engines, &caller.org, Some(&caller.user), name).await
}

/// The same for somebody who may be new here, within a transaction.
pub async fn find_within(
    tx: &mut Tx,
    engines: &Engines,
    org: &OrgId,
    user: Option<&UserId>,
    name: &str,
) -> Result<Option<Panel>, Error> {
    let own = user.map(|user| Owner::User(user.clone()));
    for owner in own.into_iter().chain([Owner::Org(org.clone())]) {
        if let Some(row) = tx.find_panel(&owner, name).await? {
            return read(&row).map(Some);
        }
    }
    Ok(of_house(engines).into_iter().find(|panel| panel.name == name))
}

/// All that the caller can ask, by name; of two with one name, the one that [`find`] finds.
pub async fn list(salon: &Salon, caller: &Caller) -> Result<Vec<Found>, Error> {
    let mut tx = salon.store.read().await?;
    list_within(&mut tx, &salon.engines, &caller.org, Some(&caller.user)).await
}

/// The same for somebody who may be new here, within a transaction.
pub async fn list_within(
    tx: &mut Tx,
    engines: &Engines,
    org: &OrgId,
    user: Option<&UserId>,
) -> Result<Vec<Found>, Error> {
    let mut found: Vec<Found> = Vec::new();
    let own = match user {
        Some(user) => tx.list_panels(&Owner::User(user.clone())).await?,
        None => Vec::new(),
    };
    let org = tx.list_panels(&Owner::Org(org.clone())).await?;
    for (rows, whose) in [(own, Whose::Own), (org, Whose::Org)] {
        for row in rows {
            found.push(Found { panel: read(&row)?, whose });
        }
    }
    found.extend(of_house(engines).into_iter().map(|panel| Found { panel, whose: Whose::House }));
    let mut names = std::collections::HashSet::new();
    found.retain(|found| names.insert(found.panel.name.clone()));
    found.sort_by(|one, other| one.panel.name.cmp(&other.panel.name));
    Ok(found)
}

/// Keeps a panel under its name, in the place of the owner's of that name.
pub async fn save(salon: &Salon, caller: &Caller, owner: Owner, panel: &Panel) -> Result<(), PanelError> {
    may_change(caller, &owner)?;
    panel.check()?;
    let gate = match &panel.gate {
        Gate::Model(model) => Some(model),
        _ => None,
    };
    for model in panel.voices.iter().filter_map(|voice| voice.model.as_ref()).chain(gate) {
        if !salon.engines.knows_model(model, &caller.org) {
            return Err(PanelError::Model(shortened(model)));
        }
    }
    let body = serde_json::to_string(&PanelSpec::of(panel)).map_err(anyhow::Error::new).map_err(Error::from)?;
    let (id, name, updated_at) = (salon.clock.id(), panel.name.clone(), salon.clock.now());
    let row = PanelRow { id, owner, name, body, updated_at };
    salon.store.write(row, |tx, row| Box::pin(tx.put_panel(row))).await?;
    Ok(())
}

/// `false` if the owner has none of this name.
pub async fn remove(salon: &Salon, caller: &Caller, owner: Owner, name: &str) -> Result<bool, PanelError> {
    may_change(caller, &owner)?;
    let args = (owner, name.to_owned());
    let removed = salon.store.write(args, |tx, (owner, name)| Box::pin(tx.remove_panel(owner, name))).await?;
    Ok(removed)
}

fn may_change(caller: &Caller, owner: &Owner) -> Result<(), PanelError> {
    let allowed = match owner {
        Owner::User(user) => *user == caller.user,
        Owner::Org(org) => *org == caller.org && caller.role >= Role::Admin,
    };
    if allowed { Ok(()) } else { Err(PanelError::NotYours) }
}

/// Those of the configuration, and the usual one.
fn of_house(engines: &Engines) -> Vec<Panel> {
    let mut panels = engines.panels().to_vec();
    let usual = engines.find(USUAL_MODEL).is_some_and(|engine| matches!(engine.answers, Answers::Model(_)));
    if usual && !panels.iter().any(|panel| panel.name == DEFAULT) {
        panels.push(Panel::usual(DEFAULT));
    }
    panels
}

fn read(row: &PanelRow) -> Result<Panel, Error> {
    let spec: PanelSpec = serde_json::from_str(&row.body).map_err(anyhow::Error::new)?;
    Ok(spec.panel(&row.name).map_err(|error| anyhow::anyhow!("the panel {} of {}: {error}", row.name, row.owner))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_what_was_meant() {
        let mut panel = Panel { rounds: 2, gate: Gate::Model("gpt".into()), ..Panel::usual("p") };
        panel.voices[1].model = Some("claude".into());
        panel.voices[2].hears.push("Critic".into());
        panel.voices[2].instruction = "Look twice.".into();
        let text = serde_json::to_string(&PanelSpec::of(&panel)).expect("JSON");
        let spec: PanelSpec = serde_json::from_str(&text).expect("a spec");
        assert_eq!(spec.panel("p").expect("a panel"), panel);
        assert_eq!(PanelSpec::default().panel("p").expect("a panel"), Panel::usual("p"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = |text: &str| serde_json::from_str::<PanelSpec>(text).expect("a spec").panel("p").is_err();
        for text in [
            r#"{"gate":"perhaps"}"#,
            r#"{"gate":"model:"}"#,
            r#"{"ceiling":"much"}"#,
            r#"{"ceiling":"-1"}"#,
            r#"{"rounds":3}"#,
            r#"{"voices":[{"name":"a","part":"judge"}]}"#,
            r#"{"voices":[{"name":"a","part":"critic"}]}"#,
        ] {
            assert!(wrong(text), "{text}");
        }
        assert!(serde_json::from_str::<PanelSpec>(r#"{"colour":"green"}"#).is_err());
    }

    #[test]
    fn engines_name_panels() {
        for (engine, panel) in [
            ("panel", Some("default")),
            ("panel:law", Some("law")),
            ("salon/law", Some("law")),
            ("panel:", None),
            ("panel:a b", None),
            ("panels", None),
            ("gpt", None),
        ] {
            assert_eq!(named(engine), panel, "{engine}");
        }
    }
}
