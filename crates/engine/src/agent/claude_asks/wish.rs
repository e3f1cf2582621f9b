//! What claude wants, from the tool that it would use.

use serde_json::Value;

use crate::agent::questions::{Detail, Wish, is_near};
use crate::agent::words;

/// `None` if it does not say, or wants what nobody here can give: an answer instead of a permission.
pub(super) fn read(request: &Value) -> Option<Wish> {
    let tool = request["tool_name"].as_str().filter(|tool| !tool.trim().is_empty())?;
    let input = request["input"].as_object().map(|_| &request["input"])?;
    if request["requires_user_interaction"] == true || tool == "AskUserQuestion" {
        return None;
    }
    let mut wish = wish(tool, input)?;
    let path = request["blocked_path"].as_str().filter(|path| !is_near(path));
    if let Some(path) = path {
        wish.more = true;
        wish.detail.say("outside", path);
    }
    if matches!(request["decision_reason_type"].as_str(), Some("workingDir" | "sandboxOverride" | "safetyCheck"))
        || request["classifier_approvable"] == false
    {
        wish.more = true;
    }
    if let Some(reason) = request["decision_reason"].as_str().filter(|reason| !reason.trim().is_empty()) {
        wish.detail.say("because", reason);
    }
    Some(wish)
}

fn wish(tool: &str, input: &Value) -> Option<Wish> {
    let text = |field: &str| input[field].as_str();
    match tool {
        "Bash" => {
            let command = text("command")?;
            let mut detail = Detail::from(command);
            if let Some(purpose) = text("description").filter(|purpose| !purpose.trim().is_empty()) {
                detail.say("reason", purpose);
            }
            let more = input["dangerouslyDisableSandbox"] == true;
            Some(Wish { title: command.to_owned(), detail, what: command.to_owned(), more })
        }
        "Write" => file("write", text("file_path")?, false, text("content")?),
        "Edit" => {
            let diff = format!("{}{}", marked('-', text("old_string")?), marked('+', text("new_string")?));
            file("change", text("file_path")?, input["replace_all"] == true, &diff)
        }
        "NotebookEdit" => file("change", text("notebook_path")?, false, text("new_source").unwrap_or_default()),
        "WebFetch" => {
            let mut detail = Detail::saying("fetch", text("url")?);
            detail.text(text("prompt").unwrap_or_default());
            Some(titled(detail, true))
        }
        "WebSearch" => Some(titled(Detail::saying("search", text("query")?), true)),
        _ => Some(titled(Detail::from(format!("{tool} {}", words::compact(input)).as_str()), false)),
    }
}

fn file(verb: &str, path: &str, everywhere: bool, content: &str) -> Option<Wish> {
    let mut detail = Detail::saying(verb, &words::inside(path).unwrap_or_else(|| path.to_owned()));
    if everywhere {
        detail.say("everywhere", "");
    }
    detail.text(content.trim_end_matches('\n'));
    (!path.trim().is_empty()).then(|| titled(detail, !is_near(path)))
}

/// A wish whose first line is what it is called.
fn titled(detail: Detail, more: bool) -> Wish {
    let title = detail.title();
    Wish { what: title.clone(), title, detail, more }
}

fn marked(mark: char, text: &str) -> String {
    text.lines().map(|line| format!("{mark}{line}\n")).collect()
}
