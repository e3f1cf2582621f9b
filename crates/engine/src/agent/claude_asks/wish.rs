//! What claude wants, from the tool that it would use.

use serde_json::Value;

use crate::agent::questions::{Wish, is_near};
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
        wish.detail.push_str(&format!("It is about {path}, outside the workspace.\n"));
    }
    if matches!(request["decision_reason_type"].as_str(), Some("workingDir" | "sandboxOverride" | "safetyCheck"))
        || request["classifier_approvable"] == false
    {
        wish.more = true;
    }
    if let Some(reason) = request["decision_reason"].as_str().filter(|reason| !reason.trim().is_empty()) {
        wish.detail.push_str(&format!("It asks because: {reason}\n"));
    }
    Some(wish)
}

fn wish(tool: &str, input: &Value) -> Option<Wish> {
    let text = |field: &str| input[field].as_str();
    match tool {
        "Bash" => {
            let command = text("command")?;
            let mut detail = format!("{command}\n");
            if let Some(purpose) = text("description").filter(|purpose| !purpose.trim().is_empty()) {
                detail.push_str(&format!("Its reason: {purpose}\n"));
            }
            let more = input["dangerouslyDisableSandbox"] == true;
            Some(Wish { title: command.to_owned(), detail, what: command.to_owned(), more })
        }
        "Write" => file("write", text("file_path")?, text("content")?),
        "Edit" => {
            let diff = format!("{}{}", marked('-', text("old_string")?), marked('+', text("new_string")?));
            let everywhere = if input["replace_all"] == true { "everywhere:\n" } else { "" };
            file("change", text("file_path")?, &format!("{everywhere}{diff}"))
        }
        "NotebookEdit" => file("change", text("notebook_path")?, text("new_source").unwrap_or_default()),
        "WebFetch" => {
            let title = format!("fetch {}", text("url")?);
            let detail = format!("{title}\n{}\n", text("prompt").unwrap_or_default());
            Some(Wish { what: title.clone(), title, detail, more: true })
        }
        "WebSearch" => {
            let title = format!("search the web for {}", text("query")?);
            Some(Wish { detail: format!("{title}\n"), what: title.clone(), title, more: true })
        }
        _ => {
            let title = format!("{tool} {}", words::compact(input));
            Some(Wish { detail: format!("{title}\n"), what: title.clone(), title, more: false })
        }
    }
}

fn file(verb: &str, path: &str, content: &str) -> Option<Wish> {
    let title = format!("{verb} {}", words::inside(path).unwrap_or_else(|| path.to_owned()));
    let detail = format!("{title}\n{}\n", content.trim_end_matches('\n'));
    (!path.trim().is_empty()).then(|| Wish { what: title.clone(), title, detail, more: !is_near(path) })
}

fn marked(mark: char, text: &str) -> String {
    text.lines().map(|line| format!("{mark}{line}\n")).collect()
}
