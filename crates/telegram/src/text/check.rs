//! The law of messages, as strict as the strictest server.

use super::{ENTITIES, Formatted, clean, is_blank, len_utf16, spans};
use crate::types::{Entity, EntityKind};

/// Whether Telegram would take the message and keep it exactly as it is; if not, why not.
pub fn check(formatted: &Formatted, limit: usize) -> Result<(), String> {
    let Formatted { text, entities } = formatted;
    if is_blank(text) {
        return Err("the text is blank".into());
    }
    let units = len_utf16(text);
    if units > limit {
        return Err(format!("the text has {units} units, {limit} are allowed"));
    }
    if let Some(c) = text.chars().find(|&c| clean::is_dropped(c)) {
        return Err(format!("{c:?} would be dropped"));
    }
    if clean::clean(text) != *text {
        return Err("the text would be changed".into());
    }
    if text.trim_end() != text {
        return Err("the text ends with white space".into());
    }
    let begins_with_code = entities.first().is_some_and(|first| {
        entities
            .iter()
            .take_while(|entity| entity.offset == first.offset)
            .any(|e| e.offset == 0 && e.kind == EntityKind::Pre)
    });
    let keeps_its_indentation = begins_with_code && !text.starts_with('\n');
    if text.trim_start() != text && !keeps_its_indentation {
        return Err("the text begins with white space".into());
    }
    if entities.len() > ENTITIES {
        return Err(format!("there are {} entities, {ENTITIES} are allowed", entities.len()));
    }
    if spans::from_entities(text, entities).len() != entities.len() {
        return Err("an entity lies outside the text or begins or ends inside a character".into());
    }
    for (entity, span) in entities.iter().zip(spans::from_entities(text, entities)) {
        one(entity, &text[span.range]).map_err(|why| format!("{why}: {entity:?}"))?;
    }
    together(entities)
}

/// What holds for each entity, whatever stands beside it.
fn one(entity: &Entity, covered: &str) -> Result<(), &'static str> {
    if entity.length <= 0 || is_blank(covered) {
        return Err("an entity covers nothing");
    }
    let is_pre = entity.kind == EntityKind::Pre;
    if covered.trim_end() != covered
        || (if is_pre { covered.trim_start_matches('\n') } else { covered.trim_start() }) != covered
    {
        return Err("an entity covers white space at its ends");
    }
    if entity.kind == EntityKind::Other {
        return Err("an entity has no kind");
    }
    let is_web = |url: &str| {
        let url = url.to_ascii_lowercase();
        url.starts_with("http://") || url.starts_with("https://")
    };
    if (entity.kind == EntityKind::TextLink) != entity.url.is_some() || !entity.url.as_deref().is_none_or(is_web) {
        return Err("a link needs a web address, and nothing else may have one");
    }
    if !is_pre && entity.language.is_some() {
        return Err("only a code block has a language");
    }
    Ok(())
}

/// What holds between entities: sorted, nested or apart, and nested only as Telegram allows.
fn together(entities: &[Entity]) -> Result<(), String> {
    let mut open: Vec<&Entity> = Vec::new();
    let mut before: Option<&Entity> = None;
    for entity in entities {
        if before.is_some_and(|before| (before.offset, -before.length) > (entity.offset, -entity.length)) {
            return Err(format!("not sorted: {entity:?}"));
        }
        before = Some(entity);
        while open.last().is_some_and(|outer| outer.offset + outer.length <= entity.offset) {
            open.pop();
        }
        for outer in &open {
            if entity.offset + entity.length > outer.offset + outer.length {
                return Err(format!("{entity:?} crosses {outer:?}"));
            }
            if !spans::may_contain(outer.kind, entity.kind) {
                return Err(format!("{entity:?} must not stand inside {outer:?}"));
            }
        }
        open.push(entity);
    }
    Ok(())
}
