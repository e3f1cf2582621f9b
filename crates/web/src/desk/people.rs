//! The people of an organisation: who there is, and how somebody new comes in.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use salon::desk::Hire;
use salon::logins::passes::INVITED_FOR;
use salon::logins::{NotIn, Visit};
use salon_core::Time;
use salon_core::limit::Period;
use salon_core::people::Role;
use salon_store::{Person, Words};
use serde::Deserialize;

use super::Said;
use super::clerk::Desk;
use crate::Web;
use crate::site::shell::{Field, Shell, page as shown, page_as};
use crate::site::visitor::Filled;

const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "desk/people.html")]
struct PeoplePage {
    shell: Shell,
    words: String,
    people: Vec<Person>,
    /// Behind whom the next page begins.
    next: Option<(String, String)>,
    name: Field,
    email: Field,
    password: Field,
    role: &'static str,
    /// What is shown this once: a sentence, and a password or an address.
    fresh: Option<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    q: String,
    after: String,
    id: String,
    done: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewForm {
    #[serde(rename = "seal")]
    _seal: String,
    name: String,
    email: String,
    role: String,
    #[serde(default)]
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InviteForm {
    #[serde(rename = "seal")]
    _seal: String,
    role: String,
}

/// When this month began for the organisation.
pub(super) fn month(desk: &Desk) -> Time {
    Period::Month.window(&desk.caller.zone, desk.now).start
}

pub(crate) async fn page(State(web): State<Web>, Query(asked): Query<Asked>, desk: Desk) -> Said {
    let shell = desk.noticing("users", asked.done.as_deref());
    Ok(shown(&look(&web, &desk, shell, &asked).await?))
}

async fn look(web: &Web, desk: &Desk, shell: Shell, asked: &Asked) -> Result<PeoplePage, Response> {
    let words = Words::new(&asked.q);
    let found = async {
        let mut tx = web.relay.book.read().await?;
        tx.list_people(&desk.org.id, words.as_ref(), month(desk), (&asked.after, &asked.id), PAGE).await
    };
    let people = found.await.map_err(|error| desk.broken(&error))?;
    let last = people.last().filter(|_| people.len() as i64 == PAGE);
    Ok(PeoplePage {
        shell,
        words: asked.q.trim().to_owned(),
        next: last.map(|last| (last.name.clone(), last.id.to_string())),
        people,
        name: Field::default(),
        email: Field::default(),
        password: Field::default(),
        role: Role::User.as_str(),
        fresh: None,
    })
}

/// Makes somebody. The password that they come in by at first stands on this page, and nowhere again.
pub(crate) async fn create(State(web): State<Web>, Filled(desk, form): Filled<Desk, NewForm>) -> Said {
    desk.admin()?;
    desk.proven("/admin/users")?;
    let shell = desk.shell("users");
    let role = read_role(&desk, &form.role)?;
    let hire = Hire {
        org: desk.org.id.clone(),
        name: form.name.clone(),
        email: form.email.clone(),
        role,
        password: Some(form.password.clone()).filter(|password| !password.is_empty()),
    };
    let mut page = look(&web, &desk, shell.clone(), &Asked::default()).await?;
    let not = match web.salon.hire(&desk.pen(&web), hire).await {
        Ok((user, password)) => {
            let mut page = look(&web, &desk, shell.clone(), &Asked::default()).await?;
            page.fresh = Some((shell.t1("desk.users.fresh_password", "name", user.name), password));
            return Ok(page_as(StatusCode::CREATED, &page));
        }
        Err(NotIn::Store(error)) => return Err(desk.broken(&error)),
        Err(not) => not,
    };
    let why = Some(shell.wrong(not.code()));
    let field = |value: &str, here: bool| Field { value: value.to_owned(), wrong: why.clone().filter(|_| here) };
    page.name = field(&form.name, matches!(not, NotIn::BadName));
    page.email = field(&form.email, matches!(not, NotIn::BadEmail | NotIn::Taken));
    page.password = field("", matches!(not, NotIn::WeakPassword));
    page.role = role.as_str();
    Ok(page_as(StatusCode::UNPROCESSABLE_ENTITY, &page))
}

/// Makes an invitation. Its address stands on this page, and nowhere again.
pub(crate) async fn invite(State(web): State<Web>, Filled(desk, form): Filled<Desk, InviteForm>) -> Said {
    desk.admin()?;
    desk.proven("/admin/users")?;
    let role = read_role(&desk, &form.role)?;
    let fresh = web
        .salon
        .invite(&desk.pen(&web), &desk.org.id, role, INVITED_FOR)
        .await
        .map_err(|error| desk.broken(&error))?;
    let shell = desk.shell("users");
    let base = desk.base(&web);
    let mut page = look(&web, &desk, shell.clone(), &Asked::default()).await?;
    let until = shell.stamp(fresh.expires_at);
    page.fresh = Some((shell.t1("desk.users.fresh_invitation", "time", until), format!("{base}/join/{}", fresh.word)));
    Ok(page_as(StatusCode::CREATED, &page))
}

/// A role by its name; the list on our pages has no other.
pub(super) fn read_role(desk: &Desk, word: &str) -> Result<Role, Response> {
    let known = Role::ALL.into_iter().find(|role| role.as_str() == word);
    known.ok_or_else(|| crate::site::refuse(&desk.shell("users"), StatusCode::UNPROCESSABLE_ENTITY, "other"))
}

/// Whether somebody is the one who looks.
pub(super) fn is_self(visit: &Visit, id: &str) -> bool {
    visit.account.user.id.as_str() == id
}
