//! Who stands at the desk, and which organisation they look after.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use salon::Caller;
use salon::audit::Pen;
use salon::logins::Visit;
use salon::people::DEFAULT_ORG;
use salon_core::limit::Zone;
use salon_core::people::Role;
use salon_core::{Lang, Org, OrgId, Time};

use super::door::ask_again;
use super::kept::Kept;
use crate::site::shell::{Place, Shell};
use crate::site::visitor::{AsVisit, Clerk, cookie, language};
use crate::site::{broken, missing, refuse, see};
use crate::{Web, error};

/// Somebody at the desk.
pub(crate) struct Desk {
    pub visit: Visit,
    /// The same person, acting in the organisation that is looked after.
    pub caller: Arc<Caller>,
    pub org: Org,
    lang: Lang,
    pub now: Time,
    /// Where this browser finds us.
    host: String,
    /// The form that they send just now.
    sent: Option<Kept>,
}

impl FromRequestParts<Web> for Desk {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, web: &Web) -> Result<Desk, Response> {
        let Clerk(visit) = Clerk::from_request_parts(head, web).await?;
        let lang = language(&head.headers, visit.account.taste.lang.as_deref());
        let now = web.salon.clock.now();
        let own = visit.account.user.org.clone();
        let chosen = cookie(&head.headers, org_cookie(web)).map(OrgId::new).filter(|_| is_wide(&visit));
        let found = async {
            let mut tx = web.salon.store.read().await?;
            if let Some(chosen) = &chosen
                && let Some(org) = tx.find_org(chosen).await?
            {
                return Ok(Some(org));
            }
            tx.find_org(&own).await
        };
        let org: Result<_, salon_store::Error> = found.await;
        let org = org.map_err(|error| broken(&Shell::of(&visit, Place::Desk(""), lang, now), &error))?;
        let org = org.ok_or_else(error::not_found)?;
        let caller = Arc::new(Caller {
            zone: Zone::find(&org.zone).unwrap_or_else(Zone::utc),
            org: org.id.clone(),
            ..visit.caller.as_ref().clone()
        });
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Desk { visit, caller, org, lang, now, host, sent: None })
    }
}

impl AsVisit for Desk {
    fn visit(&self) -> &Visit {
        &self.visit
    }

    fn sends(&mut self, path: &str, body: &[u8]) {
        self.sent = Some(Kept::of(path, body));
    }
}

/// Whether somebody looks after the whole house.
fn is_wide(visit: &Visit) -> bool {
    visit.account.role() == Role::Admin && visit.account.user.org.as_str() == DEFAULT_ORG
}

/// The cookie that says which organisation is looked after. It allows nothing: whoever has no right to it is not asked.
pub(super) fn org_cookie(web: &Web) -> &'static str {
    if web.house.secure_cookies { "__Host-desk-org" } else { "desk-org" }
}

impl Desk {
    pub fn shell(&self, place: &'static str) -> Shell {
        let mut shell = Shell::of(&self.visit, Place::Desk(place), self.lang, self.now);
        shell.zone = self.caller.zone.clone();
        shell.tending = (self.org.id != self.visit.account.user.org).then(|| self.org.name.clone());
        shell.wide = is_wide(&self.visit);
        shell.of_house = self.is_of_house();
        shell
    }

    /// The same, saying what just happened.
    pub fn noticing(&self, place: &'static str, done: Option<&str>) -> Shell {
        let mut shell = self.shell(place);
        let known = done.filter(|word| word.len() < 40 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        shell.notice = known.and_then(|word| self.lang.find(&format!("page.desk.done.{word}"), &[]));
        shell
    }

    /// Whether they belong to the organisation that the bots belong to: what is everybody's is shown to them alone.
    pub fn is_of_house(&self) -> bool {
        self.visit.account.user.org.as_str() == DEFAULT_ORG
    }

    /// Only administrators change things.
    pub fn admin(&self) -> Result<(), Response> {
        match self.visit.account.role() {
            Role::Admin => Ok(()),
            _ => Err(refuse(&self.shell(""), StatusCode::FORBIDDEN, "forbidden")),
        }
    }

    /// What belongs to the whole house is not there for others.
    pub fn house(&self) -> Result<(), Response> {
        if self.is_of_house() { Ok(()) } else { Err(missing(&self.shell(""))) }
    }

    /// Who changes what belongs to the whole house.
    pub fn wide(&self) -> Result<(), Response> {
        self.house()?;
        self.admin()
    }

    /// Asks for the password unless it was shown lately, and keeps what was sent until then. `back` is the page from which
    /// it was sent.
    pub fn proven(&self, back: &str) -> Result<(), Response> {
        if self.visit.is_proven(self.now) {
            return Ok(());
        }
        Err(match &self.sent {
            Some(kept) => ask_again(self.shell("prove"), back, kept.clone()),
            None => see(&format!("/admin/prove?next={back}")),
        })
    }

    /// Writes down what this person does.
    pub fn pen(&self, web: &Web) -> Pen {
        web.salon.pen(&self.visit)
    }

    /// Where people find us: what the configuration says, else where this browser does.
    pub fn base(&self, web: &Web) -> String {
        let here = || match self.host.starts_with("127.0.0.1") || self.host.starts_with("localhost") {
            true => format!("http://{}", self.host),
            false => format!("https://{}", self.host),
        };
        web.house.public_url.clone().unwrap_or_else(here)
    }

    pub fn broken(&self, error: &salon_store::Error) -> Response {
        broken(&self.shell(""), error)
    }

    pub fn missing(&self) -> Response {
        missing(&self.shell(""))
    }
}
