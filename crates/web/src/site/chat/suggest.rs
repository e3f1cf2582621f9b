//! What could be asked next: three questions that always fit, or those that the dialog's model suggests when somebody
//! wants it. Whatever is chosen fills the box and is not sent.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use salon::Salon;
use salon::engines::Answers;
use salon::run::suggest::{Suggested, suggest as suggested};
use salon_core::{Dialog, DialogId};

use super::super::dialogs::shell_of;
use super::super::door::Nothing;
use super::super::shell::Shell;
use super::super::visitor::{Filled, Visitor};
use super::super::{broken, missing};
use super::{Kept, failed_with, show, wants_part};
use crate::{Web, crowd};

#[derive(Template)]
#[template(path = "part/suggest.html")]
struct Suggest<'a> {
    shell: &'a Shell,
    lines: Vec<String>,
    /// Whether a model can be asked for others.
    can_ask: bool,
    /// Why there are no others.
    why: Option<String>,
    is_hidden: bool,
}

/// What came of asking for suggestions.
#[derive(Default)]
pub(super) struct Next {
    lines: Vec<String>,
    why: Option<String>,
}

impl Next {
    pub(super) fn shown(self, shell: &Shell, salon: &Salon, dialog: &Dialog, is_hidden: bool) -> String {
        let answers = salon.engines.find(&dialog.engine).map(|configured| configured.answers);
        let can_ask = self.lines.is_empty() && matches!(answers, Some(Answers::Model(_)));
        let usual = || ["simpler", "example", "short"].map(|word| shell.t(&format!("chat.suggest.{word}"))).into();
        let lines = if self.lines.is_empty() { usual() } else { self.lines };
        Suggest { shell, lines, can_ask, why: self.why, is_hidden }.render().unwrap_or_default()
    }
}

/// `POST /dialogs/{dialog}/suggestions`: lets the dialog's model suggest what could be asked next.
pub(crate) async fn suggest(
    State(web): State<Web>,
    Path(dialog): Path<String>,
    headers: HeaderMap,
    Filled(Visitor(visit), _): Filled<Visitor, Nothing>,
) -> Response {
    let shell = shell_of(&web, &visit, &headers);
    let id = DialogId::new(dialog);
    let dialog = match web.salon.find_shelved(&visit.caller, &id).await {
        Ok(Some(shelved)) => shelved.dialog,
        Ok(None) => return missing(&shell),
        Err(error) => return broken(&shell, &error),
    };
    let made = match crowd::call(&web, &visit.caller) {
        Ok(_place) => suggested(&web.relay, &visit.caller, &dialog).await,
        Err(_) => Ok(Suggested::Failed { code: "too_many_calls", message: shell.wrong("too_many_calls") }),
    };
    let (status, next) = match made {
        Ok(Suggested::Lines(lines)) => (StatusCode::OK, Next { lines, why: None }),
        Ok(not) => {
            let (status, why) = why_not(&shell, &not);
            (status, Next { lines: Vec::new(), why: Some(why) })
        }
        Err(error) => return broken(&shell, &error),
    };
    if wants_part(&headers) {
        return (status, Html(next.shown(&shell, &web.salon, &dialog, false))).into_response();
    }
    let kept = Kept { next: Some(next), ..Kept::default() };
    show(&web, &visit, shell, &id, None, status, kept).await
}

fn why_not(shell: &Shell, not: &Suggested) -> (StatusCode, String) {
    let (status, word) = match not {
        Suggested::Failed { code, message } => {
            let status = match *code {
                "over_limit" | "too_many_calls" => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::BAD_GATEWAY,
            };
            return (status, shell.t1("chat.suggest.failed", "why", failed_with(shell, code, message)));
        }
        Suggested::NoModel => (StatusCode::CONFLICT, "no_model"),
        Suggested::NoAnswer => (StatusCode::CONFLICT, "no_answer"),
        Suggested::Held => (StatusCode::CONFLICT, "held"),
        Suggested::Nothing | Suggested::Lines(_) => (StatusCode::BAD_GATEWAY, "nothing"),
    };
    (status, shell.t(&format!("chat.suggest.{word}")))
}
