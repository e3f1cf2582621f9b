//! Panels: from `salon.toml`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use salon::panels::PanelSpec;
use salon_core::panel::Panel;

pub(super) fn panels(file: BTreeMap<String, PanelSpec>) -> Result<Vec<Panel>> {
    let panel = |(name, spec): (String, PanelSpec)| spec.panel(&name).with_context(|| format!("[panels.{name}]"));
    file.into_iter().map(panel).collect()
}

#[cfg(test)]
mod tests {
    use salon_core::Micros;
    use salon_core::panel::{Gate, Part};

    use super::*;

    fn read(text: &str) -> Result<Vec<Panel>> {
        panels(toml::from_str(text).expect("TOML"))
    }

    #[test]
    fn a_panel_is_read_as_it_is_written() {
        let text = r#"
            [law]
            gate = "model:gpt"
            rounds = 2
            ceiling = "0.05"
            [[law.voices]]
            name = "Jurist"
            part = "solver"
            model = "gpt"
            [[law.voices]]
            name = "Judge"
            part = "critic"
            cap = 300
            [[law.voices]]
            name = "Clerk"
            part = "synth"
        "#;
        let panels = read(text).expect("a panel");
        let law = &panels[0];
        assert_eq!((law.name.as_str(), law.rounds, law.ceiling), ("law", 2, Micros(50_000)));
        assert_eq!(law.gate, Gate::Model("gpt".into()));
        let voices: Vec<_> = law.voices.iter().map(|v| (v.name.as_str(), v.part, v.cap)).collect();
        assert_eq!(voices, [("Jurist", Part::Solver, 500), ("Judge", Part::Critic, 300), ("Clerk", Part::Synth, 700)]);
    }

    #[test]
    fn a_wrong_panel_is_named() {
        for text in ["[law]\nrounds = 3", "[\"a b\"]\nrounds = 1", "[law]\nceiling = \"much\""] {
            let error = format!("{:#}", read(text).expect_err("wrong"));
            assert!(error.contains("[panels."), "{error}");
        }
    }
}
