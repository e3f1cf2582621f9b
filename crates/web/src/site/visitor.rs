//! Who looks at a page: cookies, and that a form was sent by one of our own pages.

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::header::{self, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use salon::logins::{Entered, Visit};
use salon_core::Lang;
use salon_store::Realm;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Web, error};

/// Somebody who came in, looking at the pages of everybody.
pub(crate) struct Visitor(pub Visit);

/// The same at the desk.
pub(crate) struct Clerk(pub Visit);

/// Anybody, in their language.
pub(crate) struct Guest {
    pub lang: Lang,
    /// Who they are, if they came in.
    pub visit: Option<Visit>,
}

impl FromRequestParts<Web> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, web: &Web) -> Result<Visitor, Response> {
        match visit(web, &head.headers, Realm::House).await? {
            Some(visit) => Ok(Visitor(visit)),
            None => Err(to_the_door(head, "/login")),
        }
    }
}

impl FromRequestParts<Web> for Clerk {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, web: &Web) -> Result<Clerk, Response> {
        match visit(web, &head.headers, Realm::Desk).await? {
            Some(visit) => Ok(Clerk(visit)),
            None => Err(to_the_door(head, "/admin/login")),
        }
    }
}

impl FromRequestParts<Web> for Guest {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Parts, web: &Web) -> Result<Guest, Response> {
        let visit = visit(web, &head.headers, Realm::House).await?;
        let chosen = visit.as_ref().and_then(|visit| visit.account.taste.lang.clone());
        Ok(Guest { lang: language(&head.headers, chosen.as_deref()), visit })
    }
}

/// Who the request's cookie stands for.
pub(crate) async fn visit(web: &Web, headers: &HeaderMap, realm: Realm) -> Result<Option<Visit>, Response> {
    let Some(cookie) = cookie(headers, name(web, realm)) else { return Ok(None) };
    web.salon.visit(cookie, realm).await.map_err(|error| match error {
        salon_store::Error::Unavailable(_) | salon_store::Error::Full => error::unavailable(2),
        error => error::fault(&error),
    })
}

/// A page is shown again once its reader came in; a script is only told.
fn to_the_door(head: &Parts, door: &str) -> Response {
    let wants_page = head.headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"));
    if !wants_page && head.method == Method::GET {
        return error::plain(StatusCode::UNAUTHORIZED, "Come in first.");
    }
    let asked = head.uri.path_and_query().filter(|_| head.method == Method::GET).map_or("", |path| path.as_str());
    match asked {
        "" | "/" | "/start" | "/admin" => super::see(door),
        path => super::see(&format!("{door}?next={}", encoded(path))),
    }
}

/// A path as the value of a query.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Where to go after coming in: one of our own pages, however the wish is written. Everything else is the first page.
pub(crate) fn next_page(wish: Option<&str>, home: &'static str) -> String {
    const OURS: [&str; 8] = ["/start", "/dialogs", "/account", "/usage", "/keys", "/panels", "/link", "/admin"];
    let wish = wish.unwrap_or_default();
    let plain = wish.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let page = wish.split(['?', '#']).next().unwrap_or_default();
    let no_detour = !page.contains("//") && !page.contains("/.") && !page.contains('%');
    let ours =
        OURS.iter().any(|ours| page.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    if plain && no_detour && ours { wish.to_owned() } else { home.to_owned() }
}

fn name(web: &Web, realm: Realm) -> &'static str {
    match (realm, web.house.secure_cookies) {
        (Realm::House, true) => "__Host-sid",
        (Realm::Desk, true) => "__Host-desk",
        // A browser takes no such names without TLS.
        (Realm::House, false) => "sid",
        (Realm::Desk, false) => "desk",
    }
}

pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = pairs
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value);
    let first = found.next();
    // Two of them: one was put there by somebody else, and we do not guess which.
    if found.next().is_some() { None } else { first }
}

/// Gives a browser its cookie.
pub(crate) fn welcome(web: &Web, entered: &Entered, mut response: Response) -> Response {
    let realm = entered.login.realm;
    let age = entered.login.expires_at.since(entered.login.created_at).as_secs();
    let site = if realm == Realm::Desk { "Strict" } else { "Lax" };
    let secure = if web.house.secure_cookies { "; Secure" } else { "" };
    let text =
        format!("{}={}; Path=/{secure}; HttpOnly; SameSite={site}; Max-Age={age}", name(web, realm), entered.cookie);
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// Takes it away.
pub(crate) fn goodbye(web: &Web, realm: Realm, mut response: Response) -> Response {
    let secure = if web.house.secure_cookies { "; Secure" } else { "" };
    let text = format!("{}=; Path=/{secure}; HttpOnly; SameSite=Lax; Max-Age=0", name(web, realm));
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// The language of somebody's choice, or the first of the browser's that we speak.
pub(crate) fn language(headers: &HeaderMap, chosen: Option<&str>) -> Lang {
    let says = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = says.split(',').map(|tag| tag.split(';').next().unwrap_or_default().trim()).find(|tag| {
        let primary = tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
        Lang::PEOPLE.iter().any(|lang| lang.tag() == primary)
    });
    Lang::from_tag(chosen.or(first))
}

/// Lets a form through that one of our own pages sent, as the browser says. Scripts of other programs carry no cookie and
/// have nothing to do here.
pub(crate) async fn own_pages_only(State(_): State<Web>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) || comes_from_us(request.headers()) {
        return next.run(request).await;
    }
    error::plain(StatusCode::FORBIDDEN, "This can only be sent by a page of this site.")
}

fn comes_from_us(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match said("sec-fetch-site") {
        Some(site) => site == "same-origin",
        // An older browser: its origin must be where it sends the form.
        None => match (said("origin"), said("host")) {
            (Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
            _ => false,
        },
    }
}

#[derive(Deserialize)]
struct Sealed {
    #[serde(default)]
    seal: String,
}

/// A form with its seal, from somebody who came in. What is in it and unknown is refused.
pub(crate) struct Filled<V, T>(pub V, pub T);

impl<V, T> FromRequest<Web> for Filled<V, T>
where
    V: FromRequestParts<Web, Rejection = Response> + AsVisit + Send,
    T: DeserializeOwned + Send,
{
    type Rejection = Response;

    async fn from_request(request: Request, web: &Web) -> Result<Filled<V, T>, Response> {
        let (mut head, body) = request.into_parts();
        let mut visitor = V::from_request_parts(&mut head, web).await?;
        let body = axum::body::to_bytes(body, LONGEST_FORM).await;
        let body = body.map_err(|_| error::plain(StatusCode::PAYLOAD_TOO_LARGE, "This form is too long."))?;
        check_seal(visitor.visit(), &body)?;
        visitor.sends(head.uri.path(), &body);
        Ok(Filled(visitor, read_form(&head.headers, body).await?))
    }
}

const LONGEST_FORM: usize = 1 << 20;

fn check_seal(visit: &Visit, body: &[u8]) -> Result<(), Response> {
    let sealed: Sealed = serde_form(body).unwrap_or(Sealed { seal: String::new() });
    if is_seal(visit, &sealed.seal) { Ok(()) } else { Err(stale()) }
}

/// Whether this is the seal of the visitor's own forms.
pub(crate) fn is_seal(visit: &Visit, seal: &str) -> bool {
    use salon::logins::same;
    same(visit.seal.as_bytes(), seal.as_bytes())
}

pub(crate) fn stale() -> Response {
    error::plain(StatusCode::FORBIDDEN, "This form is of another login. Load the page again.")
}

/// Reads a form's body.
pub(crate) fn serde_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let request = axum::http::Request::builder().uri(format!("/?{}", std::str::from_utf8(body).ok()?)).body(()).ok()?;
    axum::extract::Query::<T>::try_from_uri(request.uri()).ok().map(|query| query.0)
}

async fn read_form<T: DeserializeOwned>(headers: &HeaderMap, body: axum::body::Bytes) -> Result<T, Response> {
    let mut request = Request::builder().method(Method::POST).uri("/").body(axum::body::Body::from(body));
    if let (Ok(request), Some(kind)) = (&mut request, headers.get(header::CONTENT_TYPE)) {
        request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
    }
    let request = request.map_err(|error| error::fault(&error))?;
    match Form::<T>::from_request(request, &()).await {
        Ok(Form(form)) => Ok(form),
        Err(rejection) => {
            let status = rejection.into_response().status();
            Err(error::plain(status, "This form cannot be read."))
        }
    }
}

/// Whoever looks, as somebody who came in.
pub(crate) trait AsVisit {
    fn visit(&self) -> &Visit;

    /// They send this form, whose seal is good.
    fn sends(&mut self, _path: &str, _body: &[u8]) {}
}

impl AsVisit for Visitor {
    fn visit(&self) -> &Visit {
        &self.0
    }
}

impl AsVisit for Clerk {
    fn visit(&self) -> &Visit {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_pages_are_gone_to() {
        for good in ["/start", "/dialogs/01J?x=1", "/account", "/admin/users", "/usage#week"] {
            assert_eq!(next_page(Some(good), "/start"), good);
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/start//evil.example",
            "/homeless",
            "/%09/evil.example",
            "\t//evil.example",
            "/dialogs/../../evil",
            "/dialogs\r\nSet-Cookie: a=b",
            "javascript:alert(1)",
            "/logout",
            "/start/%2e%2e",
            "evil",
            "\\\\evil",
            "/dialogs\\@evil.example",
            "http:evil.example",
            "///evil.example",
        ] {
            assert_eq!(next_page(Some(bad), "/start"), "/start", "{bad:?}");
        }
        assert_eq!(next_page(None, "/admin"), "/admin");
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        fn us(pairs: &[(&'static str, &'static str)]) -> bool {
            let parsed = |(name, value): &(&str, &'static str)| {
                (name.parse::<header::HeaderName>().expect("a name"), HeaderValue::from_static(value))
            };
            comes_from_us(&pairs.iter().map(parsed).collect())
        }
        assert!(us(&[("sec-fetch-site", "same-origin")]));
        assert!(us(&[("host", "salon.example"), ("origin", "https://salon.example")]));
        for bad in ["same-site", "cross-site", "none", ""] {
            assert!(!us(&[("sec-fetch-site", bad), ("host", "a"), ("origin", "https://a")]), "{bad}");
        }
        assert!(!us(&[("host", "salon.example"), ("origin", "null")]));
        assert!(!us(&[("host", "salon.example"), ("origin", "https://salon.example.evil")]));
        assert!(!us(&[("host", "salon.example")]));
    }

    #[test]
    fn a_cookie_that_comes_twice_is_none() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1; __Host-sid=x; b=2"));
        assert_eq!(cookie(&headers, "__Host-sid"), Some("x"));
        assert_eq!(cookie(&headers, "sid"), None);
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-sid=y"));
        assert_eq!(cookie(&headers, "__Host-sid"), None);
    }

    #[test]
    fn the_first_language_that_we_speak_is_spoken() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("de-DE,de;q=0.9,ru;q=0.8,en;q=0.5"));
        assert_eq!(language(&headers, None), Lang::Ru);
        assert_eq!(language(&headers, Some("ko")), Lang::Ko);
        assert_eq!(language(&HeaderMap::new(), None), Lang::En);
    }
}
