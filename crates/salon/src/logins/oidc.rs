//! Signing on at somebody else's: OpenID Connect, by authorization code with PKCE.
//!
//! ```text
//!  /login/oidc/NAME ──state, nonce, challenge──► the provider ──state, code──► …/callback ──code, verifier──► tokens
//! ```
//! Somebody is known by issuer and subject, and by nothing else: an e-mail address belongs to whoever the provider says, and
//! providers differ in how well they look. An account that exists takes an identity only from within, by its owner.
//!
//! What is under way stands in two places. The browser that began it has a cookie with the state and the verifier; here
//! stands the state's hash, good once. So neither a stolen code nor somebody else's link is of use to anybody.

mod keys;
mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use salon_core::people::Role;
use salon_core::{OrgId, Time, User, UserId};
use salon_engine::outbound::Outbound;
use salon_store::{Account, Pass, Realm, Tx};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Entered, NotIn, passes};
use crate::Salon;
use crate::audit::{Action, Actor, Deed, Pen, note, note_alone};
use crate::people::{self, UserChange};
use provider::Known;

pub use provider::Provider;

const PASS: &str = "oidc";
/// How long somebody may take at the provider.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Why somebody who was at a provider does not come in.
#[derive(Debug, Error)]
pub enum NoSignOn {
    #[error("there is no provider of this name")]
    NoProvider,
    /// The cookie is missing, the state is not its own, or it was used or is too old: somebody else's link, or a page that
    /// lay about.
    #[error("this was not begun in this browser, or too long ago")]
    Stale,
    /// What the provider calls it.
    #[error("the provider said no: {0}")]
    Refused(String),
    /// The provider cannot be reached, or says what it may not. Told in the log, not to whoever waits.
    #[error("the provider cannot be asked: {0}")]
    Broken(String),
    #[error("nobody is known by this identity")]
    Unknown,
    #[error("this identity is somebody else's")]
    Taken,
    #[error(transparent)]
    NotIn(#[from] NotIn),
}

impl From<salon_store::Error> for NoSignOn {
    fn from(error: salon_store::Error) -> NoSignOn {
        NoSignOn::NotIn(NotIn::Store(error))
    }
}

impl NoSignOn {
    pub fn code(&self) -> &'static str {
        match self {
            NoSignOn::NoProvider => "missing",
            NoSignOn::Stale => "sign_on_stale",
            NoSignOn::Refused(_) => "sign_on_refused",
            NoSignOn::Broken(_) => "sign_on_broken",
            NoSignOn::Unknown => "sign_on_unknown",
            NoSignOn::Taken => "sign_on_taken",
            NoSignOn::NotIn(not) => not.code(),
        }
    }
}

/// The providers of this process.
pub struct SignOn {
    providers: BTreeMap<String, Arc<Known>>,
}

impl SignOn {
    pub fn new(providers: Vec<Provider>) -> SignOn {
        let outbound = Outbound::new();
        let known = providers.into_iter().map(|provider| {
            let name = provider.name.clone();
            (name, Arc::new(Known::new(provider, outbound.clone())))
        });
        SignOn { providers: known.collect() }
    }

    /// Names and labels, by name.
    pub fn list(&self) -> impl Iterator<Item = (&str, &str)> {
        self.providers.values().map(|known| (known.settings.name.as_str(), known.settings.label.as_str()))
    }

    fn find(&self, name: &str) -> Result<Arc<Known>, NoSignOn> {
        self.providers.get(name).cloned().ok_or(NoSignOn::NoProvider)
    }
}

/// Somebody on their way to a provider.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Where the browser goes.
    pub location: String,
    /// What it keeps meanwhile.
    pub cookie: String,
    pub lasts: Duration,
}

/// What the provider sent a browser back with.
#[derive(Clone, Debug, Default)]
pub struct Back<'a> {
    pub state: &'a str,
    pub code: Option<&'a str>,
    /// Who sent them, if the provider says so (RFC 9207).
    pub issuer: Option<&'a str>,
    pub error: Option<&'a str>,
    pub cookie: Option<&'a str>,
    /// Who is in already, in this browser.
    pub visitor: Option<&'a Account>,
    pub browser: &'a str,
    /// The same address as on the way there.
    pub redirect: &'a str,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Arrived {
    Entered(Box<Entered>, String),
    /// The account that was in before has this identity from now on.
    Linked,
}

impl Salon {
    /// Sends somebody to a provider. `link` is the account that is to take the identity; `next` where they wanted to go.
    pub async fn leave_for(
        &self,
        name: &str,
        redirect: &str,
        link: Option<&UserId>,
        next: &str,
    ) -> Result<Leaving, NoSignOn> {
        let known = self.sign_on.get().ok_or(NoSignOn::NoProvider)?.find(name)?;
        let discovery = known.discovery(self.clock.now()).await.map_err(|error| broken(name, &error))?;
        let (state, verifier, now) = (passes::word(), passes::word(), self.clock.now());
        let pass = Pass {
            hash: self.state_hash(&state),
            kind: PASS.to_owned(),
            account: link.cloned(),
            text: Some(json!({ "provider": name, "next": next }).to_string()),
            expires_at: now + PATIENCE,
            used: false,
        };
        let added = self.store.write((pass, now), |tx, (pass, now)| Box::pin(tx.add_pass(pass, *now)));
        added.await?;
        let mut location = discovery.authorization.clone();
        location
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &known.settings.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", "openid profile email")
            .append_pair("state", &state)
            .append_pair("nonce", &self.nonce(&verifier))
            .append_pair("code_challenge", &URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier)))
            .append_pair("code_challenge_method", "S256");
        Ok(Leaving { location: location.into(), cookie: format!("{state}.{verifier}"), lasts: PATIENCE })
    }

    /// Takes somebody in who comes back from a provider.
    pub async fn return_from(&self, name: &str, back: Back<'_>) -> Result<Arrived, NoSignOn> {
        let known = self.sign_on.get().ok_or(NoSignOn::NoProvider)?.find(name)?;
        let (state, verifier) = back.cookie.and_then(|cookie| cookie.split_once('.')).ok_or(NoSignOn::Stale)?;
        if !super::same(state.as_bytes(), back.state.as_bytes()) || state.is_empty() {
            return Err(NoSignOn::Stale);
        }
        let pass = self.use_state(state).await?.ok_or(NoSignOn::Stale)?;
        let begun: Value = pass.text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        if begun["provider"].as_str() != Some(name) {
            return Err(NoSignOn::Stale);
        }
        // Another provider's answer, sent here by somebody between the two.
        if back.issuer.is_some_and(|issuer| issuer != known.settings.issuer) {
            return Err(NoSignOn::Stale);
        }
        if let Some(error) = back.error {
            let plain: String = error.chars().filter(char::is_ascii_graphic).take(64).collect();
            return Err(NoSignOn::Refused(plain));
        }
        let code = back.code.ok_or(NoSignOn::Stale)?;
        let now = self.clock.now();
        let proven = known.redeem(code, verifier, back.redirect, &self.nonce(verifier), now).await;
        let claims = match proven {
            Ok(claims) => claims,
            Err(error) => {
                let deed = Deed::new(Action::LogIn, &OrgId::new(""), "").ended("sign_on_broken");
                let deed = deed.with(json!({ "provider": name }));
                note_alone(&self.store, self.pen(Actor::Guest), deed).await?;
                return Err(broken(name, &error));
            }
        };
        if let Some(owner) = &pass.account {
            // Whoever began it must still be who is in here.
            if back.visitor.map(|visitor| &visitor.user.id) != Some(owner) {
                return Err(NoSignOn::Stale);
            }
            self.take_identity(owner, &known.settings, &claims).await?;
            return Ok(Arrived::Linked);
        }
        let account = self.person_of(&known.settings, &claims).await?;
        let next = begun["next"].as_str().unwrap_or_default().to_owned();
        let entered = self.let_in(&account, Realm::House, back.browser).await?;
        Ok(Arrived::Entered(Box::new(entered), next))
    }

    /// Uses a state up.
    async fn use_state(&self, state: &str) -> salon_store::Result<Option<Pass>> {
        let args = (self.state_hash(state), self.clock.now());
        let used = self.store.write(args, |tx, (hash, now)| {
            Box::pin(async move {
                let pass = tx.find_pass(hash, PASS).await?;
                if pass.is_none() || !tx.use_token(hash, *now).await? {
                    return Ok(None);
                }
                Ok(pass)
            })
        });
        used.await
    }

    async fn take_identity(&self, owner: &UserId, provider: &Provider, claims: &Said) -> Result<(), NoSignOn> {
        let (issuer, subject) = (provider.issuer.clone(), claims.subject.clone());
        let args = (owner.clone(), issuer, subject, self.pen(owner), provider.name.clone());
        let taken = self.store.write(args, |tx, (owner, issuer, subject, pen, name)| {
            Box::pin(async move {
                if !tx.add_identity(issuer, subject, owner, pen.at()).await? {
                    return Ok(tx.find_user_of_identity(issuer, subject).await?.as_ref() == Some(owner));
                }
                let deed = super::of(tx, Action::IdentityLinked, owner).await?;
                note(tx, pen, deed.with(json!({ "provider": name }))).await?;
                Ok(true)
            })
        });
        if taken.await? { Ok(()) } else { Err(NoSignOn::Taken) }
    }

    /// Takes an identity away from somebody. `false` if it is not theirs.
    pub async fn drop_identity(
        &self,
        pen: &Pen,
        owner: &UserId,
        issuer: &str,
        subject: &str,
    ) -> salon_store::Result<bool> {
        let args = (owner.clone(), issuer.to_owned(), subject.to_owned(), pen.clone());
        let dropped = self.store.write(args, |tx, (owner, issuer, subject, pen)| {
            Box::pin(async move {
                let dropped = tx.remove_identity(owner, issuer, subject).await?;
                if dropped {
                    let deed = super::of(tx, Action::IdentityUnlinked, owner).await?;
                    note(tx, pen, deed.with(json!({ "issuer": issuer }))).await?;
                }
                Ok(dropped)
            })
        });
        dropped.await
    }

    /// Who somebody is here; made, if the provider's people may come by themselves.
    async fn person_of(&self, provider: &Provider, claims: &Said) -> Result<Account, NoSignOn> {
        let mut tx = self.store.read().await?;
        let known = tx.find_user_of_identity(&provider.issuer, &claims.subject).await?;
        let id = match known {
            Some(id) => id,
            None if provider.create => {
                let org = people::find_org(&self.store, &provider.org).await;
                let org = org.map_err(|error| broken(&provider.name, &anyhow::Error::new(error)))?.id;
                self.add_person(provider, claims, org).await?
            }
            None => return Err(NoSignOn::Unknown),
        };
        let account = tx.find_account(&id).await?.ok_or(NoSignOn::Unknown)?;
        drop(tx);
        let Some(role) = claims.role.filter(|role| *role != account.user.role && provider.roles.is_some()) else {
            return Ok(account);
        };
        let change = UserChange { role: Some(role), ..UserChange::default() };
        match people::set_user(&self.store, &self.pen(Actor::Salon), &id, change).await {
            Ok(_) => Ok(self.store.read().await?.find_account(&id).await?.ok_or(NoSignOn::Unknown)?),
            Err(people::PeopleError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::warn!(user.id = %id, %error, "a provider's role was not taken over");
                Ok(account)
            }
        }
    }

    async fn add_person(&self, provider: &Provider, claims: &Said, org: OrgId) -> Result<UserId, NoSignOn> {
        let user = User {
            id: UserId::new(self.clock.id()),
            org,
            name: claims.name.clone(),
            email: claims.email.clone(),
            role: claims.role.filter(|_| provider.roles.is_some()).unwrap_or(Role::User),
            active: true,
            telegram: None,
            subject: None,
            created_at: self.clock.now(),
        };
        let pen = self.pen(&user.id);
        let args = (user, provider.issuer.clone(), claims.subject.clone(), pen, provider.name.clone());
        let added = self.store.write(args, |tx, (user, issuer, subject, pen, name)| {
            Box::pin(add(tx, user, (issuer, subject), pen, name))
        });
        Ok(added.await?)
    }

    fn state_hash(&self, state: &str) -> String {
        self.keys.token_hash(&format!("oidc {state}"))
    }

    /// Follows from the verifier, so that it need not be kept: only whoever has both of them has begun this.
    fn nonce(&self, verifier: &str) -> String {
        self.keys.token_hash(&format!("nonce of {verifier}"))
    }
}

async fn add(
    tx: &mut Tx,
    user: &User,
    (issuer, subject): (&str, &str),
    pen: &Pen,
    provider: &str,
) -> salon_store::Result<UserId> {
    // Somebody may come in two browsers at once.
    if let Some(known) = tx.find_user_of_identity(issuer, subject).await? {
        return Ok(known);
    }
    tx.add_user(user).await?;
    if !tx.add_identity(issuer, subject, &user.id, pen.at()).await? {
        return Err(salon_store::Error::Unavailable("two transactions met".to_owned()));
    }
    let detail = json!({ "role": user.role.as_str(), "provider": provider });
    note(tx, pen, Deed::new(Action::UserAdded, &user.org, &user.id).with(detail)).await?;
    Ok(user.id.clone())
}

/// What a provider says of somebody, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    subject: String,
    name: String,
    email: Option<String>,
    role: Option<Role>,
}

impl Said {
    /// Reads the claims of a token that is proven. Names are made such as we show.
    fn of(claims: &Value, roles: Option<&str>) -> Option<Said> {
        let text = |name: &str| claims[name].as_str().map(str::trim).filter(|text| !text.is_empty());
        let subject = text("sub").filter(|subject| subject.len() <= 255)?.to_owned();
        let shown = ["name", "preferred_username", "email"].into_iter().find_map(text).unwrap_or(&subject);
        let name: String = shown.chars().filter(|c| !c.is_control()).take(200).collect();
        let email = text("email").and_then(|text| people::email(text).ok());
        Some(Said { name, email, role: roles.and_then(|claim| highest(&claims[claim])), subject })
    }
}

/// The highest role that a claim names: one word, or several.
fn highest(claim: &Value) -> Option<Role> {
    let one = |value: &Value| value.as_str().and_then(Role::parse);
    match claim {
        Value::Array(several) => several.iter().filter_map(one).max(),
        value => one(value),
    }
}

fn broken(name: &str, error: &anyhow::Error) -> NoSignOn {
    let words = format!("{error:#}");
    tracing::warn!(provider = name, error = words, "somebody could not sign on");
    NoSignOn::Broken(words)
}

/// Whether a token's times and parties are right.
fn judge(claims: &Value, settings: &Provider, nonce: &str, now: Time) -> anyhow::Result<()> {
    const SKEW: Duration = Duration::from_secs(60);
    let seconds = |name: &str| claims[name].as_f64().filter(|seconds| seconds.abs() < 1e15);
    let time = |name: &str| seconds(name).map(|seconds| Time((seconds * 1000.0) as i64));
    anyhow::ensure!(claims["iss"].as_str() == Some(&settings.issuer), "the token was issued by somebody else");
    let (audience, id) = (&claims["aud"], settings.client_id.as_str());
    let alone = audience.as_str() == Some(id);
    let among = audience.as_array().is_some_and(|several| several.iter().any(|one| one.as_str() == Some(id)));
    anyhow::ensure!(alone || among, "the token is meant for somebody else");
    let several = audience.as_array().is_some_and(|several| several.len() > 1);
    let party = claims["azp"].as_str();
    anyhow::ensure!(party.is_none_or(|party| party == id) && (!several || party.is_some()), "the token is for another");
    anyhow::ensure!(time("exp").is_some_and(|at| at + SKEW > now), "the token has expired");
    anyhow::ensure!(time("iat").is_some_and(|at| at <= now + SKEW), "the token is from the future");
    anyhow::ensure!(time("nbf").is_none_or(|at| at <= now + SKEW), "the token is not valid yet");
    let right = claims["nonce"].as_str().is_some_and(|said| super::same(said.as_bytes(), nonce.as_bytes()));
    anyhow::ensure!(right, "the token belongs to another login");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        Provider {
            name: "birds".to_owned(),
            label: "Birds".to_owned(),
            issuer: "https://id.example.org".to_owned(),
            client_id: "salon".to_owned(),
            client_secret: None,
            org: "default".to_owned(),
            roles: None,
            create: true,
            rules: Arc::default(),
        }
    }

    fn good() -> Value {
        json!({
            "iss": "https://id.example.org", "aud": "salon", "sub": "7", "exp": 1_060, "iat": 1_000, "nonce": "n",
        })
    }

    #[test]
    fn a_token_is_for_us_from_them_and_of_now() {
        let judged =
            |claims: &Value| judge(claims, &provider(), "n", Time(1_000_000)).map_err(|error| error.to_string());
        assert_eq!(judged(&good()), Ok(()));
        let several = json!(["salon", "other"]);
        for (name, value, right) in [
            ("iss", json!("https://id.example.org/"), false),
            ("iss", json!(null), false),
            ("aud", json!("other"), false),
            ("aud", json!(["salon"]), true),
            ("aud", several.clone(), false),
            ("azp", json!("other"), false),
            ("azp", json!("salon"), true),
            ("exp", json!(900), false),
            ("exp", json!(950), true),
            ("exp", json!(null), false),
            ("exp", json!("1060"), false),
            ("iat", json!(1_100), false),
            ("nbf", json!(1_100), false),
            ("nonce", json!("m"), false),
            ("nonce", json!(null), false),
        ] {
            let mut claims = good();
            claims[name] = value.clone();
            assert_eq!(judged(&claims).is_ok(), right, "{name}: {value}");
        }
        let mut claims = good();
        (claims["aud"], claims["azp"]) = (several, json!("salon"));
        assert_eq!(judged(&claims), Ok(()));
    }

    #[test]
    fn what_is_said_of_somebody_is_made_such_as_we_show() {
        let claims = json!({
            "sub": "7", "name": " A\u{7}lice ", "email": "alice@birds.example", "groups": ["x", "manager", "user"],
        });
        let said = Said::of(&claims, Some("groups")).expect("somebody");
        assert_eq!((said.name.as_str(), said.email.as_deref()), ("Alice", Some("alice@birds.example")));
        assert_eq!(said.role, Some(Role::Manager));
        assert_eq!(Said::of(&claims, None).expect("somebody").role, None);
        assert_eq!(Said::of(&json!({ "sub": "7", "email": "nonsense" }), None).expect("somebody").email, None);
        assert_eq!(Said::of(&json!({ "name": "Alice" }), None), None);
    }
}
