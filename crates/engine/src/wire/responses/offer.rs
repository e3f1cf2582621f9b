//! The tools of a Responses question: functions, tools that take free text, and either of them in namespaces.

use crate::wire::carry::fields::Fields;
use crate::wire::carry::{MAX_TOOLS, tools};
use crate::wire::talk::{Ask, CannotCarry, Disguise, Tool};

/// The namespace that is none: OpenAI's models know every plain tool by it.
const PLAIN: &str = "functions";
/// The longest name that every wire takes.
const MAX_NAME: usize = 64;

/// Adds a tool. Built-in ones are left out and told: nobody else has them, and clients send them unasked.
pub(super) fn read_tool(mut fields: Fields, namespace: Option<&str>, ask: &mut Ask) -> Result<(), CannotCarry> {
    let kind = fields.text("type")?.unwrap_or_else(|| "function".to_owned());
    match kind.as_str() {
        "function" => {
            let name = fields.needed_text("name")?;
            ask.tools.push(Tool {
                description: fields.text("description")?,
                schema: fields.take("parameters"),
                strict: fields.flag("strict")?,
                disguise: namespace.map(|namespace| disguise(&name, Some(namespace), false)),
                name: flat_name(&name, namespace),
            });
        }
        "custom" => {
            let name = fields.needed_text("name")?;
            let disguise = disguise(&name, namespace, true);
            ask.tools.push(tools::custom(fields, flat_name(&name, namespace), disguise)?);
        }
        // One namespace in another is nobody's custom.
        "namespace" if namespace.is_none() => {
            let name = fields.needed_text("name")?;
            let about = fields.text("description")?.filter(|about| !about.is_empty());
            let before = ask.tools.len();
            for tool in fields.few("tools", MAX_TOOLS)? {
                read_tool(tool, Some(&name), ask)?;
            }
            // Said once, at the first of its tools: a namespace has no place of its own elsewhere.
            if let (Some(about), Some(first)) = (about, ask.tools.get_mut(before)) {
                let own = first.description.take().unwrap_or_default();
                first.description = Some(format!("{name}: {about}\n\n{own}").trim_end().to_owned());
            }
        }
        kind => ask.leave_out(&format!("tools.{kind}")),
    }
    Ok(())
}

fn disguise(name: &str, namespace: Option<&str>, custom: bool) -> Disguise {
    Disguise { name: name.to_owned(), namespace: namespace.map(str::to_owned), custom }
}

/// The name under which a tool travels: always the same for the same tool, so that calls of earlier turns match.
pub(super) fn flat_name(name: &str, namespace: Option<&str>) -> String {
    let flat = match namespace {
        None | Some(PLAIN) => return name.to_owned(),
        Some(namespace) => format!("{namespace}__{name}"),
    };
    if flat.len() <= MAX_NAME {
        return flat;
    }
    let mut end = MAX_NAME - 17;
    while !flat.is_char_boundary(end) {
        end -= 1;
    }
    // `fit_id` answers with a hash for what is this long, or holds what no name should.
    let hash = tools::fit_id(&flat);
    format!("{}_{}", &flat[..end], &hash[hash.len() - 16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_namespaces_become_flat_and_stay_apart() {
        assert_eq!(flat_name("exec", None), "exec");
        assert_eq!(flat_name("exec", Some("functions")), "exec");
        assert_eq!(flat_name("sleep", Some("clock")), "clock__sleep");
        let long = |end: &str| flat_name(&format!("{}{end}", "x".repeat(80)), Some("clock"));
        assert_eq!(long("a").len(), 64);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
        assert!(flat_name(&"ж".repeat(40), Some("часы")).len() <= 64);
    }
}
